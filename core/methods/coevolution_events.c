/* What a coevolution tells and keeps while it runs: metrics, held-out losses, checkpoints. Reported losses are floats;
 * what decides is integers. */
#include "core/base/alloc.h"
#include "core/base/hash.h"
#include "core/dispatch/network_file.h"
#include "core/methods/coevolution.h"
#include "core/report/report.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

double qe_coevolution_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double seconds_of(const qe_coevolution *s) {
  return s->before + qe_coevolution_clock() - s->began;
}

/* Nats from Q16 bits; below 0 stays so. */
static double nats(int64_t q16) {
  return q16 < 0 ? -1 : (double)q16 * (0.6931471805599453 / 65536);
}

static uint64_t hash_network(const qe_network *network) {
  uint64_t hash = QE_HASH_START;
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    size_t channels = (size_t)layer->output.dim[QE_C];
    if (layer->weight) hash = qe_hash(hash, layer->weight, (size_t)qe_count(&layer->weight_desc));
    for (int b = 0; b < 2; b++)
      if (layer->multiplier[b]) hash = qe_hash(hash, layer->multiplier[b], channels * sizeof *layer->multiplier[b]);
    if (layer->offset) hash = qe_hash(hash, layer->offset, channels * sizeof *layer->offset);
  }
  return hash;
}

qe_status qe_coevolution_copy(const qe_network *network, qe_network **copy) {
  qe_tensors *tensors = qe_tensors_new();
  qe_status status = tensors ? qe_network_give(network, tensors) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_network_take(tensors, "a copy", copy);
  qe_tensors_free(tensors);
  return status;
}

/* ---- held-out images ---- */

static int32_t held_out_images(const qe_coevolution *s) {
  return s->evolution->measure.held_out > 0 ? qe_fitness_images(s->evolution->fitness, QE_FITNESS_HELD_OUT) : 0;
}

static qe_score held_out_score(const qe_coevolution *s, int64_t loss, int64_t hits) {
  int32_t images = held_out_images(s);
  if (images == 0) return (qe_score){0};
  return (qe_score){nats(loss) / images, 100.0 * (double)hits / images, images};
}

static qe_status log_stage(const qe_coevolution *s) {
  const qe_evolution *evolution = s->evolution;
  qe_score score = held_out_score(s, s->stage_loss, s->stage_hits);
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "phase", QE_COEVOLUTION_PHASE);
  qe_json_text(&json, "ended", evolution->stage ? evolution->stage : "start");
  if (score.images) {
    qe_json_real(&json, "held_out_loss", score.loss);
    qe_json_real(&json, "held_out_top1", score.top1);
  }
  qe_json_int(&json, "spent", qe_evolution_spent(evolution));
  qe_json_real(&json, "seconds", seconds_of(s));
  qe_json_close(&json);
  return qe_run_append(s->setting->run, &json);
}

static void note_stage(const qe_coevolution *s) {
  qe_score score = held_out_score(s, s->stage_loss, s->stage_hits);
  const char *name = s->evolution->stage ? s->evolution->stage : "start";
  if (score.images)
    qe_run_note(s->setting->run, "%s: held out %.2f %% top-1, loss %.4f, after %" PRId64 " candidate-images, %.0f s",
                name, score.top1, score.loss, qe_evolution_spent(s->evolution), seconds_of(s));
  else
    qe_run_note(s->setting->run, "%s: done after %" PRId64 " candidate-images, %.0f s", name,
                qe_evolution_spent(s->evolution), seconds_of(s));
}

/* Before the first stage and after each: the context on all held-out images; the best of these is the result. */
qe_status qe_coevolution_between(void *context, qe_evolution *evolution) {
  qe_coevolution *s = context;
  int32_t images = held_out_images(s);
  if (images > 0) {
    qe_fitness_batch batch = {.part = QE_FITNESS_HELD_OUT, .count = images};
    QE_TRY(qe_fitness_run(evolution->fitness, &batch, evolution->genome, 1, NULL, INT64_MAX, &s->stage_loss,
                          &s->stage_hits));
  }
  if (!evolution->stage) {
    s->start_loss = s->stage_loss;
    s->start_hits = s->stage_hits;
  }
  QE_TRY(log_stage(s));
  note_stage(s);
  qe_score score = held_out_score(s, s->stage_loss, s->stage_hits);
  QE_TRY(qe_run_show_network(s->setting->run, evolution->network, &score, qe_evolution_spent(evolution)));
  if (s->best && images > 0 && s->stage_loss >= s->best_loss) return QE_OK;
  qe_network_free(s->best);
  s->best = NULL;
  s->best_loss = s->stage_loss;
  s->best_hits = s->stage_hits;
  QE_TRY(qe_coevolution_copy(evolution->network, &s->best));
  return qe_run_save_network(s->setting->run, s->best, QE_BEST_FILE);
}

/* ---- events ---- */

static void measure_rate(qe_coevolution *s, int64_t spent) {
  const double least = 0.2; /* seconds: shorter ones say little */
  double now = qe_coevolution_clock();
  if (now - s->timed_at < least && s->rate > 0) return;
  if (spent > s->timed_spent && now > s->timed_at) s->rate = (double)(spent - s->timed_spent) / (now - s->timed_at);
  s->timed_at = now;
  s->timed_spent = spent;
}

/* Of each layer pairs of a hundredth of confidence and how many weights lie there, empty ones left out. */
static void write_confidence(qe_json *json, const qe_evolution *evolution, const int64_t *bins) {
  if (!bins) return;
  qe_json_open_object(json, "confidence");
  for (size_t g = 0; g < evolution->layout->genes; g++, bins += QE_CONFIDENCE_BINS) {
    const qe_gene *gene = &evolution->layout->gene[g];
    if (gene->kind != QE_GENE_WEIGHT) continue;
    qe_json_open_array(json, evolution->network->layer[gene->layer].name);
    for (int i = 0; i < QE_CONFIDENCE_BINS; i++) {
      if (bins[i] == 0) continue;
      qe_json_open_array(json, NULL);
      qe_json_int(json, NULL, i);
      qe_json_int(json, NULL, bins[i]);
      qe_json_close(json);
    }
    qe_json_close(json);
  }
  qe_json_close(json);
}

static qe_status log_generation(const qe_coevolution *s, const qe_evolution_report *exact,
                                const qe_search_report *report) {
  char hash[24];
  snprintf(hash, sizeof hash, "%016" PRIx64, report->hash);
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "phase", QE_COEVOLUTION_PHASE);
  qe_json_text(&json, "stage", report->stage);
  qe_json_int(&json, "generation", report->generation);
  qe_json_int(&json, "spent", report->spent);
  if (exact->best >= 0) qe_json_real(&json, "best", report->best);
  if (exact->best >= 0) qe_json_int(&json, "best_q16", exact->best);
  if (exact->mean >= 0) qe_json_real(&json, "mean", report->mean);
  if (exact->held_out >= 0) qe_json_real(&json, "held_out", report->held_out);
  if (report->confident >= 0) qe_json_real(&json, "confident", report->confident);
  qe_json_int(&json, "changed", report->changed);
  qe_json_bool(&json, "accepted", report->accepted);
  qe_json_text(&json, "hash", hash);
  qe_json_real(&json, "images_per_second", report->images_per_second);
  qe_json_real(&json, "seconds", report->seconds);
  write_confidence(&json, s->evolution, exact->confidence);
  qe_json_close(&json);
  return qe_run_append(s->setting->run, &json);
}

static qe_status on_generation(void *context, const qe_evolution *evolution, const qe_evolution_report *exact) {
  qe_coevolution *s = context;
  measure_rate(s, exact->spent);
  qe_search_report report = {.stage = exact->stage,
                             .generation = exact->generation,
                             .spent = exact->spent,
                             .budget = exact->budget,
                             .best = nats(exact->best),
                             .mean = nats(exact->mean),
                             .held_out = nats(exact->held_out),
                             .confident =
                                 exact->confident_per_myriad < 0 ? -1 : (double)exact->confident_per_myriad / 100,
                             .changed = exact->changed,
                             .accepted = exact->accepted,
                             .images_per_second = s->rate,
                             .seconds = seconds_of(s),
                             .hash = hash_network(evolution->network)};
  QE_TRY(log_generation(s, exact, &report));
  return qe_run_generation(s->setting->run, &report);
}

static void on_note(void *context, const char *text) {
  const qe_coevolution *s = context;
  qe_run_note(s->setting->run, "%s", text);
}

/* ---- checkpoints ---- */

/* The method's own numbers: one table for both directions. */
static const struct number {
  const char *key;
  size_t at;
} numbers[] = {
    {"start_loss", offsetof(qe_coevolution, start_loss)}, {"start_hits", offsetof(qe_coevolution, start_hits)},
    {"best_loss", offsetof(qe_coevolution, best_loss)},   {"best_hits", offsetof(qe_coevolution, best_hits)},
    {"stage_loss", offsetof(qe_coevolution, stage_loss)}, {"stage_hits", offsetof(qe_coevolution, stage_hits)}};

enum { NUMBERS = sizeof numbers / sizeof *numbers };

/* Options that a run keeps when it is resumed; of the stages those that have begun. */
enum { FACTS = 5, FACT_TEXT = 256 };
static const char *const facts[FACTS] = {"model", "weight_bits", "act_bits", "seed", "stages"};

/* The first `count` names of a list with commas between, into text. */
static void first_names(const char *list, int count, char text[FACT_TEXT]) {
  const char *end = list;
  for (; count > 0 && *end; count--) end += strcspn(end, ",") + (count > 1 && strchr(end, ','));
  snprintf(text, FACT_TEXT, "%.*s", (int)(end - list), list);
}

static int names_of(const char *list) {
  int count = *list != 0;
  for (; *list; list++) count += *list == ',';
  return count;
}

static void find_facts(const qe_coevolution *s, int stages, char text[FACTS][FACT_TEXT]) {
  const qe_model_spec *spec = &s->setting->spec;
  snprintf(text[0], FACT_TEXT, "%s", spec->name);
  snprintf(text[1], FACT_TEXT, "%d", spec->bits.weights);
  snprintf(text[2], FACT_TEXT, "%d", spec->bits.activations);
  snprintf(text[3], FACT_TEXT, "%" PRIu64, s->setting->options.seed);
  first_names(s->setting->search.stages, stages, text[4]);
}

static qe_status give_facts(const qe_coevolution *s, qe_tensors *tensors) {
  char text[FACTS][FACT_TEXT];
  find_facts(s, s->evolution->stages_done + (s->evolution->state != NULL), text);
  for (int i = 0; i < FACTS; i++) QE_TRY(qe_tensors_set_meta(tensors, facts[i], text[i]));
  return QE_OK;
}

/* Checkpoints of older versions do not say. */
static qe_status check_facts(const qe_coevolution *s, const qe_tensors *tensors) {
  char text[FACTS][FACT_TEXT];
  const char *stages = qe_tensors_get_meta(tensors, "stages");
  find_facts(s, stages ? names_of(stages) : 0, text);
  for (int i = 0; i < FACTS; i++) {
    const char *was = qe_tensors_get_meta(tensors, facts[i]);
    if (was && strcmp(was, text[i]) != 0)
      return qe_fail(QE_USAGE, "%s was made with %s '%s', this run has '%s': resume with the options of the run",
                     qe_run_resumed_from(s->setting->run), facts[i], was, text[i]);
  }
  return QE_OK;
}

static qe_status give_numbers(const qe_coevolution *s, qe_tensors *tensors) {
  char text[32];
  for (int i = 0; i < NUMBERS; i++) {
    const int64_t *value = (const int64_t *)(const void *)((const char *)s + numbers[i].at);
    snprintf(text, sizeof text, "%" PRId64, *value);
    QE_TRY(qe_tensors_set_meta(tensors, numbers[i].key, text));
  }
  snprintf(text, sizeof text, "%.3f", seconds_of(s));
  QE_TRY(give_facts(s, tensors));
  return qe_tensors_set_meta(tensors, "seconds", text);
}

qe_status qe_coevolution_take_numbers(qe_coevolution *s, const qe_tensors *tensors) {
  QE_TRY(check_facts(s, tensors));
  for (int i = 0; i < NUMBERS; i++) {
    const char *text = qe_tensors_get_meta(tensors, numbers[i].key);
    int64_t *value = (int64_t *)(void *)((char *)s + numbers[i].at);
    if (!text || sscanf(text, "%" SCNd64, value) != 1)
      return qe_fail(QE_FORMAT, "the checkpoint lacks \"%s\"", numbers[i].key);
  }
  const char *text = qe_tensors_get_meta(tensors, "seconds");
  if (!text || sscanf(text, "%lf", &s->before) != 1) s->before = 0;
  return QE_OK;
}

/* What is known so far. */
void qe_coevolution_fill(const qe_coevolution *s, qe_result *result) {
  result->start_held_out = held_out_score(s, s->start_loss, s->start_hits);
  result->held_out = held_out_score(s, s->best_loss, s->best_hits);
  result->candidate_images = qe_evolution_spent(s->evolution);
  result->seconds = seconds_of(s);
}

qe_status qe_coevolution_report(const qe_coevolution *s) {
  char *folder;
  QE_TRY(qe_run_path(s->setting->run, "", &folder));
  qe_status status = folder ? qe_report_folder(folder) : QE_OK;
  qe_free(folder);
  if (status == QE_OK || status == QE_NO_MEMORY) return status;
  qe_run_note(s->setting->run, "report.html is not written: %s", qe_message());
  qe_message_clear();
  return QE_OK;
}

/* The report and TensorBoard's histograms, not more often than they are worth their time. */
static qe_status report_now(qe_coevolution *s) {
  const double every = 20;
  if (s->reported > 0 && seconds_of(s) - s->reported < every) return QE_OK;
  s->reported = seconds_of(s);
  QE_TRY(qe_run_show_network(s->setting->run, s->evolution->network, NULL, qe_evolution_spent(s->evolution)));
  return qe_coevolution_report(s);
}

static qe_status on_checkpoint(void *context, const qe_evolution *evolution) {
  qe_coevolution *s = context;
  qe_tensors *tensors = qe_tensors_new();
  qe_status status = tensors ? qe_evolution_give(evolution, tensors) : QE_NO_MEMORY;
  if (status == QE_OK) status = give_numbers(s, tensors);
  if (status == QE_OK) status = qe_run_save_network(s->setting->run, evolution->network, QE_LAST_FILE);
  if (status == QE_OK) status = qe_run_save_state(s->setting->run, tensors, QE_COEVOLUTION_PHASE, evolution->interim);
  qe_tensors_free(tensors);
  return status == QE_OK ? report_now(s) : status;
}

static bool is_due(void *context) {
  const qe_coevolution *s = context;
  return qe_run_due(s->setting->run);
}

qe_evolution_events qe_coevolution_events(qe_coevolution *s) {
  return (qe_evolution_events){s, on_generation, on_note, on_checkpoint, is_due};
}
