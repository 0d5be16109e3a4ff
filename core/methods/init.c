/* Parameters of a model file as the start of a method. */
#include "core/base/alloc.h"
#include "core/graph/layers.h"
#include "core/methods/method.h"

#include <string.h>

bool qe_method_quantizes(const qe_bits *bits) {
  return bits->weights != QE_FLOAT_BITS || bits->activations != QE_FLOAT_BITS || (bits->layers && *bits->layers);
}

static bool same_text(const char *a, const char *b) {
  return strcmp(a ? a : "", b ? b : "") == 0;
}

static bool same_bits(const qe_bits *a, const qe_bits *b) {
  return a->weights == b->weights && a->activations == b->activations && a->edges == b->edges &&
         a->residual == b->residual && a->weight_rule == b->weight_rule && a->activation_rule == b->activation_rule &&
         same_text(a->layers, b->layers);
}

/* A step belongs to its bits and rule: those of a network quantised otherwise are fitted anew. */
static void forget_steps(qe_model *model) {
  for (size_t i = 0; i < model->graph->nodes; i++) {
    const qe_node_info *node = &model->graph->node[i];
    bool weighted = node->layer == &qe_layer_conv || node->layer == &qe_layer_linear;
    int step = weighted ? node->param[QE_CONV_STEP] : node->layer == &qe_layer_quant ? node->param[QE_QUANT_STEP] : -1;
    if (step >= 0) model->graph->param[step].initialised = false;
  }
}

qe_status qe_method_take_tensors(qe_model *model, const qe_tensors *tensors, const char *file) {
  qe_model_spec spec;
  qe_status status = qe_model_read_spec(tensors, file, &spec);
  bool described = spec.net || model->spec.net; /* then parameters decide, by name and shape, whether it fits */
  if (status == QE_OK && !described &&
      (strcmp(spec.name, model->spec.name) != 0 || spec.shortcut != model->spec.shortcut))
    status =
        qe_fail(QE_USAGE, "%s is a %s with shortcut %c, the run is of %s with shortcut %c: change --model or --init",
                file, spec.name, spec.shortcut, model->spec.name, model->spec.shortcut);
  if (status == QE_OK) status = qe_model_take(model, tensors, file);
  bool same = status == QE_OK && same_text(spec.net, model->spec.net);
  if (status == QE_OK && !(same && same_bits(&spec.bits, &model->spec.bits))) forget_steps(model);
  return status;
}

qe_status qe_method_take_init(const qe_setting *setting, qe_model *model) {
  qe_tensors *tensors = NULL;
  QE_TRY(qe_tensors_read(setting->init, &tensors));
  qe_status status = qe_method_take_tensors(model, tensors, setting->init);
  qe_tensors_free(tensors);
  return status;
}

qe_status qe_method_start_model(const qe_setting *setting, qe_model **model) {
  QE_TRY(qe_model_new(&setting->spec, setting->options.seed, model));
  qe_status status = setting->init ? qe_method_take_init(setting, *model) : QE_OK;
  if (status == QE_OK) return QE_OK;
  qe_model_free(*model);
  return status;
}

/* In full precision, as training before quantisation, or at the bits of the spec. */
static qe_status sweep_rate(const qe_setting *setting, bool plain, qe_progress_function progress, void *context,
                            qe_rate_sweep *sweep) {
  qe_model *model;
  qe_train_options options = plain ? setting->float_options : setting->options;
  qe_rate_range range = qe_rate_range_default(options.optimizer);
  options.plain = plain;
  QE_TRY(qe_method_start_model(setting, &model));
  qe_status status = QE_OK;
  if (!plain && qe_method_quantizes(&setting->spec.bits))
    status = qe_fit_steps(setting->device, model, setting->data, options.seed);
  if (status == QE_OK)
    status = qe_find_rate(setting->device, model, setting->data, &options, &range, progress, context, sweep);
  qe_model_free(model);
  return status;
}

qe_status qe_method_find_rate(const qe_method *method, const qe_setting *setting, qe_progress_function progress,
                              void *context, qe_swept *of, qe_rate_sweep *sweep) {
  qe_setting first = *setting;
  char *layers = NULL;
  bool plain = qe_method_quantizes(&setting->spec.bits) && !setting->init && setting->float_options.epochs > 0;
  memset(sweep, 0, sizeof *sweep);
  if (!plain && method->first) QE_TRY(method->first(setting, &first.spec.bits, &layers));
  const qe_bits *bits = &first.spec.bits;
  *of = (qe_swept){.option = plain ? "float-rate" : "rate",
                   .weights = plain ? QE_FLOAT_BITS : bits->weights,
                   .activations = plain ? QE_FLOAT_BITS : bits->activations,
                   .stage = !plain && method->first};
  qe_status status = sweep_rate(&first, plain, progress, context, sweep);
  qe_free(layers);
  return status;
}
