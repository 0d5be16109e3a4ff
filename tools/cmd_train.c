/* qevo-gpu train: options to a setting, progress to the terminal, the result to stdout. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/methods/method.h"
#include "core/report/report.h"
#include "core/train/run_state.h"
#include "tools/dry_run.h"
#include "tools/find_rate.h"
#include "tools/progressive_options.h"
#include "tools/recipes.h"
#include "tools/search_options.h"
#include "tools/search_progress.h"
#include "tools/setup.h"
#include "tools/train_choice.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t stops;

/* The first Ctrl-C (or SIGTERM of a scheduler, or SIGHUP of a closed terminal) ends the run after the batch or
 * generation at work, with a checkpoint; the second at once. */
static void on_signal(int number) {
  static const char text[] = "\nstopping after this step, with a checkpoint; once more: at once\n";
  int kept = errno;
  (void)number;
  if (++stops > 1) _exit(qe_exit_code(QE_INTERRUPTED));
  if (write(STDERR_FILENO, text, sizeof text - 1) < 0) errno = kept;
  errno = kept;
}

/* Limits on file sizes and closed pipes show as failed writes, which have messages and cures. */
static void catch_signals(void) {
  static const int stopping[] = {SIGINT, SIGTERM, SIGHUP}, ignored[] = {SIGXFSZ, SIGPIPE};
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, before;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < sizeof stopping / sizeof *stopping; i++) {
    bool hangup = stopping[i] == SIGHUP; /* nohup(1) has it ignored */
    if (hangup && sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler == SIG_IGN) continue;
    sigaction(stopping[i], &action, NULL);
  }
  action.sa_handler = SIG_IGN;
  for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) sigaction(ignored[i], &action, NULL);
}

/* ---- events ---- */

typedef struct watch {
  qe_progress progress;
  int64_t batch;
  bool hash;
} watch;

static qe_status on_progress(void *context, const char *phase, const qe_train_progress *at) {
  (void)phase;
  watch *w = context;
  if (stops) return qe_fail(QE_INTERRUPTED, "interrupted");
  qe_progress_point point = {at->epoch,      at->epochs,    at->step * w->batch, at->steps * w->batch,
                             at->train.loss, at->train.top1};
  qe_progress_update(&w->progress, &point);
  return QE_OK;
}

static qe_status on_sweep(void *context, const qe_train_progress *at) {
  return on_progress(context, "", at);
}

static void on_epoch(void *context, const qe_epoch_report *report) {
  watch *w = context;
  char result[128];
  int used = snprintf(result, sizeof result, "test %.2f %%", report->test.top1);
  if (report->held_out.images > 0)
    snprintf(result + used, sizeof result - (size_t)used, ", held out %.2f %%", report->held_out.top1);
  qe_progress_point point = {report->epoch,        report->epochs,     report->train.images,
                             report->train.images, report->train.loss, report->train.top1};
  qe_progress_epoch(&w->progress, &point, result);
}

static qe_status on_generation(void *context, const qe_search_report *report) {
  watch *w = context;
  qe_search_progress(&w->progress, report, w->hash);
  return stops ? qe_fail(QE_INTERRUPTED, "interrupted") : QE_OK;
}

static void on_note(void *context, const char *text) {
  watch *w = context;
  qe_progress_note(&w->progress, "%s", text);
}

/* ---- options ---- */

static qe_status read_rule(const qe_options *options, const char *name, qe_rule *rule) {
  const char *text = qe_option_text(options, name);
  for (int i = 0; i < QE_RULES; i++) {
    if (strcmp(qe_rule_name((qe_rule)i), text) != 0) continue;
    *rule = (qe_rule)i;
    return QE_OK;
  }
  return qe_fail(QE_USAGE, "--%s: no rule is called %s", name, text);
}

static qe_status read_spec(const qe_options *options, qe_setup *setup, qe_model_spec *spec) {
  const qe_dataset *data = setup->data;
  *spec = qe_model_default(qe_option_text(options, "model"));
  if (!qe_option_is(options, "shortcut", "auto")) spec->shortcut = qe_option_text(options, "shortcut")[0];
  spec->height = data->height;
  spec->width = data->width;
  spec->channels = data->channels;
  spec->classes = data->classes;
  const char *layers = qe_option_text(options, "layer-bits");
  spec->bits = (qe_bits){.weights = (int)qe_option_int(options, "weight-bits"),
                         .activations = (int)qe_option_int(options, "act-bits"),
                         .edges = (int)qe_option_int(options, "first-last-bits"),
                         .residual = (int)qe_option_int(options, "residual-bits"),
                         .per_channel = qe_option_flag(options, "per-channel"),
                         .layers = layers && *layers ? layers : NULL};
  QE_TRY(read_rule(options, "weight-quantizer", &spec->bits.weight_rule));
  QE_TRY(read_rule(options, "act-quantizer", &spec->bits.activation_rule));
  return qe_setup_net(options, setup, spec);
}

static qe_status read_schedule(const qe_options *options, double rate, qe_schedule *schedule) {
  *schedule = (qe_schedule){.kind = qe_schedule_find(qe_option_text(options, "schedule")),
                            .rate = rate,
                            .min_rate = qe_option_real(options, "min-rate"),
                            .gamma = qe_option_real(options, "gamma"),
                            .warmup = qe_option_real(options, "warmup"),
                            .cycle = qe_option_real(options, "cycle")};
  size_t count = 0;
  const int64_t *milestones = qe_option_ints(options, "milestones", &count);
  if (count > QE_MAX_MILESTONES) return qe_fail(QE_USAGE, "--milestones: at most %d", QE_MAX_MILESTONES);
  for (size_t i = 0; i < count; i++) schedule->milestone[schedule->milestones++] = (double)milestones[i];
  return QE_OK;
}

/* Fine-tuning wants a tenth of the rate that training from random weights does. */
static double own_rate(const qe_options *options, bool quantized) {
  if (!qe_option_is(options, "rate", "auto")) return qe_option_real(options, "rate");
  return quantized ? 0.02 : qe_option_real(options, "float-rate");
}

static qe_status read_training(const qe_options *options, const qe_dataset *data, bool quantized,
                               qe_train_options *train) {
  *train = qe_train_defaults();
  train->seed = (uint64_t)qe_option_int(options, "seed");
  train->epochs =
      qe_option_is(options, "epochs", "auto") ? (quantized ? 15 : 30) : (int)qe_option_int(options, "epochs");
  train->batch = (int32_t)qe_option_int(options, "batch");
  train->accumulate = (int32_t)qe_option_int(options, "accumulate");
  train->optimizer = qe_option_is(options, "optimizer", "adam") ? QE_OPTIMIZER_ADAM : QE_OPTIMIZER_SGD;
  train->momentum = qe_option_real(options, "momentum");
  train->nesterov = qe_option_flag(options, "nesterov");
  train->weight_decay = qe_option_real(options, "weight-decay");
  train->clip_norm = qe_option_real(options, "clip-norm");
  train->ema = qe_option_real(options, "ema");
  train->smoothing = (float)qe_option_real(options, "label-smoothing");
  qe_read_augmentation(options, train);
  train->gates = qe_read_gates(options);
  if (data->images && qe_option_source(options, "pad") == QE_FROM_DEFAULT) train->pad = 0; /* it is cropped already */
  train->held_out = (int32_t)qe_option_int(options, "held-out");
  return read_schedule(options, own_rate(options, quantized), &train->schedule);
}

static qe_status read_setting(const qe_options *options, qe_setup *setup, qe_setting *setting) {
  QE_TRY(read_spec(options, setup, &setting->spec));
  const qe_bits *bits = &setting->spec.bits;
  bool quantized = bits->weights != QE_FLOAT_BITS || bits->activations != QE_FLOAT_BITS || bits->layers;
  QE_TRY(read_training(options, setting->data, quantized, &setting->options));
  setting->float_options = setting->options;
  setting->float_options.epochs = (int)qe_option_int(options, "float-epochs");
  setting->init = qe_option_text(options, "init");
  if (setting->init && !*setting->init) setting->init = NULL; /* --init '' takes back what a recipe has */
  setting->progressive = qe_read_progressive(options);
  QE_TRY(qe_read_search(options, &setting->search));
  return read_schedule(options, qe_option_real(options, "float-rate"), &setting->float_options.schedule);
}

/* ---- running ---- */

static void print_search(const qe_result *result) {
  if (result->held_out.images)
    printf("held out (%lld training images): %.2f %% top-1, loss %.4f; at the start %.2f %%, %.4f\n",
           (long long)result->held_out.images, result->held_out.top1, result->held_out.loss,
           result->start_held_out.top1, result->start_held_out.loss);
  printf("%lld candidate-images in %.0f s\n", (long long)result->candidate_images, result->seconds);
}

static void write_search(qe_json *json, const qe_result *result) {
  if (result->held_out.images) {
    qe_json_real(json, "held_out_top1", result->held_out.top1);
    qe_json_real(json, "held_out_loss", result->held_out.loss);
    qe_json_int(json, "held_out_images", result->held_out.images);
    qe_json_real(json, "start_held_out_top1", result->start_held_out.top1);
    qe_json_real(json, "start_held_out_loss", result->start_held_out.loss);
  }
  qe_json_int(json, "candidate_images", result->candidate_images);
  qe_json_real(json, "seconds", result->seconds);
}

static qe_status print_result(const qe_options *options, const qe_setup *setup, const qe_result *result) {
  if (!qe_option_flag(options, "json")) {
    if (result->start.images)
      printf("before training: %.2f %% top-1, loss %.4f\n", result->start.top1, result->start.loss);
    if (result->searched) print_search(result);
    printf("test accuracy: %.2f %% top-1, loss %.4f, %lld images (%s, seed %lld, backend %s)\n", result->final.top1,
           result->final.loss, (long long)result->final.images, setup->data->source,
           (long long)qe_option_int(options, "seed"), setup->device->backend->name);
    if (result->integer.images)
      printf("as an integer network: %.2f %% top-1, loss %.4f\n", result->integer.top1, result->integer.loss);
    return QE_OK;
  }
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_real(&json, "top1", result->final.top1);
  qe_json_real(&json, "loss", result->final.loss);
  qe_json_int(&json, "images", result->final.images);
  if (result->integer.images) {
    qe_json_real(&json, "integer_top1", result->integer.top1);
    qe_json_real(&json, "integer_loss", result->integer.loss);
  }
  if (result->start.images) {
    qe_json_real(&json, "start_top1", result->start.top1);
    qe_json_real(&json, "start_loss", result->start.loss);
  }
  if (result->searched) write_search(&json, result);
  qe_json_int(&json, "seed", qe_option_int(options, "seed"));
  qe_json_text(&json, "backend", setup->device->backend->name);
  qe_json_text(&json, "data", setup->data->source);
  qe_json_text(&json, "out", qe_option_text(options, "out"));
  qe_json_close(&json);
  return qe_print_json(&json);
}

/* report.html of the finished run. That it cannot be made is told, and is no failure of the training. */
static void write_report(const char *folder, const qe_setup *setup, const qe_train_options *options) {
  qe_report *report = NULL;
  char *path = folder ? qe_path_join(folder, "report.html") : NULL;
  if (!path) return;
  qe_status status = qe_report_new(&report);
  if (status == QE_OK) status = qe_report_add(report, folder);
  if (status == QE_OK && qe_report_has_network(report, 0))
    status = qe_report_evaluate(report, 0, setup->device, setup->data, options->eval_batch);
  if (status == QE_OK) status = qe_report_write(report, path, 0);
  if (status != QE_OK) fprintf(stderr, "note: %s is not written: %s\n", path, qe_message());
  qe_report_free(report);
  qe_free(path);
}

static qe_run_options read_run(const qe_options *options, const char *config) {
  return (qe_run_options){.folder = qe_option_text(options, "out"),
                          .config = config,
                          .resume = qe_option_flag(options, "resume"),
                          .save_every = (int)qe_option_int(options, "save-every"),
                          .save_steps = qe_option_int(options, "save-steps"),
                          .save_minutes = qe_option_real(options, "save-minutes"),
                          .keep = (int)qe_option_int(options, "keep"),
                          .log_every = (int)qe_option_int(options, "log-every")};
}

/* A copy of the description that --model names, so that the folder alone can be resumed. */
static qe_status keep_net(const qe_options *options, const qe_setup *setup, const char *folder) {
  if (!setup->net || !folder) return QE_OK;
  char *path = qe_path_join(folder, qe_path_name(qe_option_text(options, "model")));
  if (!path) return QE_NO_MEMORY;
  qe_status status = qe_file_exists(path) ? QE_OK : qe_file_write(path, setup->net, strlen(setup->net));
  qe_free(path);
  return status;
}

static qe_status train(const qe_options *options, const qe_method *method, qe_setup *setup, const char *config) {
  qe_setting setting = {.device = setup->device, .data = setup->data};
  QE_TRY(read_setting(options, setup, &setting));
  if (setting.options.epochs < 1) return qe_fail(QE_USAGE, "--epochs 0: must be at least 1");
  qe_run_options run = read_run(options, config);
  if (qe_option_flag(options, "dry-run")) {
    QE_TRY(qe_run_check(&run));
    return qe_dry_run(options, method, &setting, setup, config);
  }
  watch w = {.progress = {.file = stderr}, .batch = setting.options.batch, .hash = qe_option_flag(options, "hash")};
  qe_run_events events = {.context = &w,
                          .progress = on_progress,
                          .epoch = on_epoch,
                          .generation = on_generation,
                          .note = on_note,
                          .explain = qe_option_flag(options, "explain") ? stderr : NULL};
  if (qe_option_flag(options, "find-rate")) {
    catch_signals();
    qe_status found = qe_train_find_rate(options, method, &setting, on_sweep, &w);
    qe_progress_clear(&w.progress);
    return found;
  }
  QE_TRY(qe_run_open(&run, &events, &setting.run));
  catch_signals();
  qe_result result = {0};
  qe_status status = qe_run_begin(setting.run);
  if (status == QE_OK) status = keep_net(options, setup, run.folder);
  if (status == QE_OK) status = method->run(&setting, &result);
  qe_progress_clear(&w.progress);
  status = qe_run_end(setting.run, qe_run_explain(setting.run, status));
  qe_run_close(setting.run);
  if (status == QE_OK) write_report(run.folder, setup, &setting.options);
  return status == QE_OK ? print_result(options, setup, &result) : status;
}

qe_status qe_cmd_train(qe_options *options) {
  const qe_method *method;
  qe_setup setup;
  if (qe_option_flag(options, "list")) return qe_recipes_print(options);
  QE_TRY(qe_train_choose(options, &method));
  QE_TRY(qe_train_find_files(options));
  QE_TRY(qe_train_fix_paths(options));
  QE_TRY(qe_setup_open(options, qe_option_real(options, "crop-area"), &setup));
  qe_status status = qe_hold_data(options, method->searches, setup.data);
  if (status == QE_OK && method->searches) status = qe_search_defaults(options, setup.data);
  char *config = status == QE_OK ? qe_options_dump(options) : NULL;
  if (status == QE_OK) status = config ? train(options, method, &setup, config) : QE_NO_MEMORY;
  qe_free(config);
  qe_setup_close(&setup);
  return status;
}
