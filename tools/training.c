/* Of options the setting of a training. */
#include "tools/training.h"
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "tools/bits_option.h"
#include "tools/distill_options.h"
#include "tools/method_options.h"
#include "tools/progressive_options.h"
#include "tools/train_choice.h"

#include <stdlib.h>
#include <string.h>

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

static qe_status take_bits_file(qe_options *options, qe_setup *setup) {
  const char *path = qe_option_text(options, "bits-file"), *model = qe_option_text(options, "model");
  qe_model_spec spec;
  if (!path || !*path) return QE_OK;
  if (qe_model_is_file(model))
    return qe_fail(QE_USAGE, "--bits-file: %s says the bits of its layers itself: write bits= there", model);
  QE_TRY(read_spec(options, setup, &spec));
  return qe_take_bits_file(options, &spec);
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

static qe_status read_training(const qe_options *options, bool quantized, qe_train_options *train) {
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
  train->held_out = (int32_t)qe_option_int(options, "held-out");
  return read_schedule(options, own_rate(options, quantized), &train->schedule);
}

static qe_status read_setting(const qe_options *options, const qe_method *method, qe_setup *setup,
                              qe_setting *setting) {
  QE_TRY(read_spec(options, setup, &setting->spec));
  const qe_bits *bits = &setting->spec.bits;
  bool quantized = bits->weights != QE_FLOAT_BITS || bits->activations != QE_FLOAT_BITS || bits->layers;
  QE_TRY(read_training(options, quantized, &setting->options));
  setting->float_options = setting->options;
  QE_TRY(qe_read_distill(options, &setting->options.distill));
  setting->float_options.epochs = (int)qe_option_int(options, "float-epochs");
  setting->init = qe_option_text(options, "init");
  if (setting->init && !*setting->init) setting->init = NULL; /* --init '' takes back what a recipe has */
  if (setting->options.epochs < 1) return qe_fail(QE_USAGE, "--epochs 0: must be at least 1");
  QE_TRY(qe_method_options_read(method, options, setting));
  return read_schedule(options, qe_option_real(options, "float-rate"), &setting->float_options.schedule);
}

/* Images of a folder are cropped already. In the options, so that a resumed run reads it in its config. */
static qe_status fill_pad(qe_options *options, const qe_dataset *data) {
  if (!data->images || qe_option_source(options, "pad") != QE_FROM_DEFAULT) return QE_OK;
  return qe_option_set(options, "pad", "0", QE_FROM_DEFAULT, "pad", "default of image folders");
}

/* A run's folder where one of its files is meant; the run's config names the file. */
static qe_status take_folder(qe_options *options, const char *option, const char *own) {
  const char *given = qe_option_text(options, option);
  char *file, *origin;
  if (!given || !*given || !qe_folder_exists(given)) return QE_OK;
  QE_TRY(qe_file_meant(given, own, &file));
  origin = qe_strdup(qe_option_origin(options, option));
  qe_status status =
      origin ? qe_option_set(options, option, file, qe_option_source(options, option), option, origin) : QE_NO_MEMORY;
  qe_free(origin);
  qe_free(file);
  return status;
}

static qe_status take_folders(qe_options *options) {
  QE_TRY(take_folder(options, "init", QE_RUN_MODEL));
  QE_TRY(take_folder(options, "teacher", QE_RUN_MODEL));
  return take_folder(options, "bits-file", "bits.txt");
}

qe_status qe_training_open(qe_options *options, const qe_method *method, qe_setup *setup, qe_training *training) {
  *training = (qe_training){.options = options, .method = method, .setup = setup};
  QE_TRY(qe_train_find_files(options));
  QE_TRY(take_folders(options));
  QE_TRY(qe_train_fix_paths(options));
  if (!setup->device) QE_TRY(qe_setup_open(options, qe_option_real(options, "crop-area"), setup));
  QE_TRY(qe_hold_data(options, method->searches, setup->data));
  QE_TRY(take_bits_file(options, setup));
  QE_TRY(fill_pad(options, setup->data));
  QE_TRY(qe_method_options_fill(method, options, setup->data));
  training->setting = (qe_setting){.device = setup->device, .data = setup->data};
  QE_TRY(read_setting(options, method, setup, &training->setting));
  return qe_method_check(method, &training->setting);
}

qe_run_options qe_training_place(const qe_options *options, const char *config) {
  return (qe_run_options){.folder = qe_option_text(options, "out"),
                          .config = config,
                          .resume = qe_option_flag(options, "resume"),
                          .save_every = (int)qe_option_int(options, "save-every"),
                          .save_steps = qe_option_int(options, "save-steps"),
                          .save_minutes = qe_option_real(options, "save-minutes"),
                          .keep = (int)qe_option_int(options, "keep"),
                          .log_every = (int)qe_option_int(options, "log-every")};
}
