/* Cooperative coevolution: an integer network is made, then searched stage by stage (core/evolve/stages.h), and the
 * best of what the stages left, by the held-out images, is the result. After Peng, Liu, Lu, Tang, "Training Quantized
 * Deep Neural Networks via Cooperative Coevolution" (2021). */
#include "core/methods/coevolution.h"
#include "core/base/alloc.h"
#include "core/base/nearest.h"
#include "core/dispatch/network_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A network that the run's folder has; *network NULL where it has none. */
static qe_status read_kept(const qe_coevolution *s, const char *file, qe_network **network) {
  char *path;
  *network = NULL;
  QE_TRY(qe_run_path(s->setting->run, file, &path));
  qe_status status = path ? qe_network_read(path, network) : QE_OK;
  qe_free(path);
  if (status == QE_NOT_FOUND) qe_message_clear();
  return status == QE_NOT_FOUND ? QE_OK : status;
}

static qe_status check_phase(const qe_run *run) {
  const char *saved = qe_run_resumed_phase(run);
  if (saved && strcmp(saved, QE_COEVOLUTION_PHASE) == 0) return QE_OK;
  return qe_fail(QE_USAGE, "%s was not of the method %s, but is of the phase %s: resume it with its own method",
                 qe_run_resumed_from(run), QE_COEVOLUTION_PHASE, saved ? saved : "?");
}

/* Start and teacher: those of the run when it is resumed, else made and kept. */
static qe_status make_networks(qe_coevolution *s) {
  const qe_setting *setting = s->setting;
  if (qe_run_resumed(setting->run)) {
    QE_TRY(check_phase(setting->run));
    QE_TRY(read_kept(s, QE_START_FILE, &s->start));
    QE_TRY(read_kept(s, QE_TEACHER_FILE, &s->teacher));
    QE_TRY(read_kept(s, QE_BEST_FILE, &s->best));
    if (!s->start || !s->best)
      return qe_fail(QE_NOT_FOUND, "the run's folder lacks %s: it cannot be resumed",
                     s->start ? QE_BEST_FILE : QE_START_FILE);
    return QE_OK;
  }
  QE_TRY(qe_coevolution_start(setting, &s->start));
  QE_TRY(qe_coevolution_teacher(setting, &s->teacher));
  QE_TRY(qe_run_save_network(setting->run, s->start, QE_START_FILE));
  return s->teacher ? qe_run_save_network(setting->run, s->teacher, QE_TEACHER_FILE) : QE_OK;
}

static const char *const evolving[] = {"weights", "requantisers"};

static qe_status say_unknown_gene(const char *at, size_t length) {
  char name[64], hint[QE_NEAREST_TEXT];
  snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), at);
  qe_nearest nearest = {.word = name};
  for (int k = 0; k < 2; k++) qe_nearest_offer(&nearest, evolving[k]);
  return qe_fail(QE_USAGE, "--evolve: '%s' is none of weights and requantisers%s", name,
                 qe_nearest_hint(&nearest, "", hint));
}

/* Which layers evolve, of a text such as "weights,requantisers". */
static qe_status find_evolving(const char *text, const qe_network *network, bool *evolves) {
  for (const char *at = text; *at;) {
    size_t length = strcspn(at, ",");
    bool found = false;
    for (int k = 0; k < 2; k++) {
      if (strlen(evolving[k]) != length || strncmp(at, evolving[k], length) != 0) continue;
      found = true;
      for (size_t i = 0; i < network->layers; i++)
        evolves[i] |= k == 0 ? network->layer[i].weight != NULL : network->layer[i].offset != NULL;
    }
    if (!found) return say_unknown_gene(at, length);
    at += length + (at[length] == ',');
  }
  return QE_OK;
}

qe_status qe_coevolution_open_search(qe_coevolution *s, const qe_evolution_events *events) {
  const qe_setting *setting = s->setting;
  qe_network *network = NULL;
  qe_evolution_setup setup = {.device = &setting->device,
                              .devices = 1,
                              .data = setting->data,
                              .teacher = s->teacher,
                              .measure = setting->search.fitness,
                              .seed = setting->options.seed,
                              .budget = setting->search.budget,
                              .save_every = setting->search.save_every,
                              .events = *events};
  bool *evolves = QE_NEW_ARRAY(bool, s->start->layers);
  qe_status status = evolves ? find_evolving(setting->search.evolve, s->start, evolves) : QE_NO_MEMORY;
  setup.evolves = evolves;
  if (status == QE_OK) status = qe_coevolution_copy(s->start, &network);
  if (status == QE_OK) status = qe_evolution_new(&setup, network, &s->evolution);
  qe_free(evolves);
  return status;
}

static qe_status take_checkpoint(qe_coevolution *s) {
  const qe_tensors *tensors = qe_run_resumed(s->setting->run);
  if (!tensors) return QE_OK;
  QE_TRY(qe_coevolution_take_numbers(s, tensors));
  QE_TRY(qe_evolution_resume(s->evolution, tensors, qe_run_resumed_from(s->setting->run)));
  QE_TRY(qe_run_drop_resumed(s->setting->run));
  qe_run_note(s->setting->run, "resumed after %" PRId64 " candidate-images, in stage %d",
              qe_evolution_spent(s->evolution), s->evolution->stages_done + 1);
  return QE_OK;
}

static qe_status run_stages(qe_coevolution *s, const qe_search_stage *const *stage) {
  s->began = s->timed_at = qe_coevolution_clock();
  s->timed_spent = qe_evolution_spent(s->evolution);
  qe_status status = qe_evolution_run(s->evolution, stage, &s->setting->search.options, qe_coevolution_between);
  if (status != QE_INTERRUPTED) return status;
  const char *folder = qe_run_resume_folder(s->setting->run);
  return qe_fail(QE_INTERRUPTED, "stopped in stage %s%s%s", s->evolution->stage,
                 folder ? "; go on with --resume --out " : "", folder ? folder : "");
}

/* The test images are looked at here, once. */
static qe_status conclude(const qe_coevolution *s, qe_result *result) {
  const qe_setting *setting = s->setting;
  qe_coevolution_fill(s, result);
  QE_TRY(qe_evaluate_network(setting->device, s->start, setting->data, 0, NULL, &result->start));
  QE_TRY(qe_evaluate_network(setting->device, s->best, setting->data, 0, NULL, &result->final));
  return qe_coevolution_report(s);
}

qe_status qe_check_coevolution(const qe_setting *setting) {
  const qe_search_stage *stage[QE_MOST_STAGES];
  return qe_search_stages_find(setting->search.stages, stage);
}

qe_status qe_train_coevolution(const qe_setting *setting, qe_result *result) {
  const qe_search_stage *stage[QE_MOST_STAGES];
  qe_coevolution s = {.setting = setting};
  memset(result, 0, sizeof *result);
  result->quantized = result->searched = true;
  QE_TRY(qe_search_stages_find(setting->search.stages, stage));
  qe_status status = make_networks(&s);
  qe_evolution_events events = qe_coevolution_events(&s);
  if (status == QE_OK) status = qe_coevolution_open_search(&s, &events);
  if (status == QE_OK) status = take_checkpoint(&s);
  if (status == QE_OK) status = run_stages(&s, stage);
  if (status == QE_OK) status = conclude(&s, result);
  qe_evolution_free(s.evolution);
  qe_network_free(s.best);
  qe_network_free(s.teacher);
  qe_network_free(s.start);
  return status;
}
