/* Models: values of a graph's parameters, and the model file. */
#include "core/models/model.h"

#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/graph/layers.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

float *qe_model_values(const qe_model *model, int param) {
  return model->values + model->graph->param[param].offset / sizeof(float);
}

/* Where a parameter's draws start: a hash of its name (FNV-1a), so that adding a layer changes no other's. */
static uint64_t draw_base(const char *name) {
  uint32_t hash = 2166136261u;
  for (; *name; name++) hash = (hash ^ (uint8_t)*name) * 16777619u;
  return (uint64_t)hash << 32;
}

static void fill(float *values, int64_t count, float value) {
  for (int64_t i = 0; i < count; i++) values[i] = value;
}

/* Normal values by Box-Muller, two a draw. */
static void fill_normal(float *values, int64_t count, double deviation, uint64_t seed, const char *name) {
  uint64_t base = draw_base(name);
  for (int64_t i = 0; i < count; i += 2) {
    qe_philox draw = qe_philox_draw(seed, QE_STREAM_INIT, base + (uint64_t)i / 2);
    double radius = deviation * sqrt(-2 * log((double)qe_uniform(draw.word[0])));
    double angle = 2 * 3.14159265358979323846 * (double)qe_uniform(draw.word[1]);
    values[i] = (float)(radius * cos(angle));
    if (i + 1 < count) values[i + 1] = (float)(radius * sin(angle));
  }
}

static bool ends_with(const char *text, const char *end) {
  size_t length = strlen(text), tail = strlen(end);
  return length >= tail && strcmp(text + length - tail, end) == 0;
}

void qe_model_init_param(qe_model *model, int param, uint64_t seed) {
  const qe_param *info = &model->graph->param[param];
  int64_t count = qe_count(&info->desc);
  float *values = qe_model_values(model, param);
  const int32_t *dim = info->desc.dim;
  bool zero = ends_with(info->name, "bias") || ends_with(info->name, "beta") || ends_with(info->name, "running_mean");
  if (info->group == QE_GROUP_WEIGHT)
    fill_normal(values, count, sqrt(2.0 / ((double)dim[QE_H] * dim[QE_W] * dim[QE_C])), seed, info->name);
  else
    fill(values, count, zero ? 0.0f : 1.0f);
}

void qe_model_init(qe_model *model, uint64_t seed) {
  for (size_t i = 0; i < model->graph->params; i++) qe_model_init_param(model, (int)i, seed);
}

static qe_status copy_spec(const qe_model_spec *from, qe_model_spec *to) {
  *to = *from;
  to->bits.layers = to->net = NULL;
  to->name = qe_strdup(from->name);
  if (!to->name) return QE_NO_MEMORY;
  if (from->net && !(to->net = qe_strdup(from->net))) return QE_NO_MEMORY;
  if (from->bits.layers && !(to->bits.layers = qe_strdup(from->bits.layers))) return QE_NO_MEMORY;
  return QE_OK;
}

static void free_text(const char *text) {
  qe_free((void *)(uintptr_t)text);
}

void qe_model_free(qe_model *model) {
  if (!model) return;
  qe_graph_free(model->graph);
  qe_free(model->values);
  free_text(model->spec.name);
  free_text(model->spec.net);
  free_text(model->spec.bits.layers);
  qe_free(model);
}

/* A model without values. */
static qe_status build(const qe_model_spec *spec, qe_model **out) {
  qe_model *model = QE_NEW(qe_model);
  if (!model) return QE_NO_MEMORY;
  qe_status status = copy_spec(spec, &model->spec);
  if (status == QE_OK) status = qe_model_build(&model->spec, &model->graph);
  if (status != QE_OK) {
    qe_model_free(model);
    return status;
  }
  *out = model;
  return QE_OK;
}

static qe_status make_values(qe_model *model) {
  model->values = qe_calloc(qe_graph_param_bytes(model->graph), 1);
  return model->values ? QE_OK : QE_NO_MEMORY;
}

qe_status qe_model_new_blank(const qe_model_spec *spec, qe_model **out) {
  qe_model *model = NULL;
  QE_TRY(build(spec, &model));
  if (make_values(model) != QE_OK) {
    qe_model_free(model);
    return QE_NO_MEMORY;
  }
  *out = model;
  return QE_OK;
}

qe_status qe_model_new(const qe_model_spec *spec, uint64_t seed, qe_model **model) {
  QE_TRY(qe_model_new_blank(spec, model));
  qe_model_init(*model, seed);
  return QE_OK;
}

qe_status qe_model_new_named(const qe_model_spec *spec, uint64_t seed, qe_model **model) {
  qe_model_spec own = *spec;
  char *text = NULL;
  unsigned open_bits;
  if (qe_model_is_file(spec->name)) QE_TRY(qe_model_read_net(spec->name, &own, &open_bits, &text));
  qe_status status = qe_model_new(&own, seed, model);
  qe_free(text);
  return status;
}

/* Rank and shape in the file: leading axes of extent 1 that a user does not expect are left out. */
static int file_shape(const qe_graph *graph, const qe_param *param, int64_t *shape) {
  const int32_t *dim = param->desc.dim;
  if (param->group == QE_GROUP_WEIGHT) {
    if (graph->node[param->node].layer == &qe_layer_linear) {
      shape[0] = dim[QE_N];
      shape[1] = dim[QE_C];
      return 2;
    }
    for (int i = 0; i < 4; i++) shape[i] = dim[QE_N + i];
    return 4;
  }
  shape[0] = qe_count(&param->desc);
  return 1;
}

static bool same_shape(const qe_graph *graph, const qe_param *param, const qe_named_tensor *tensor) {
  int64_t shape[QE_MAX_RANK];
  int rank = file_shape(graph, param, shape);
  return tensor->dtype == QE_F32 && tensor->rank == rank &&
         memcmp(tensor->shape, shape, (size_t)rank * sizeof *shape) == 0;
}

static void shape_text(char *text, size_t size, int rank, const int64_t *shape) {
  size_t used = (size_t)snprintf(text, size, "[");
  for (int i = 0; i < rank && used < size; i++)
    used += (size_t)snprintf(text + used, size - used, "%s%lld", i ? "," : "", (long long)shape[i]);
  if (used < size) snprintf(text + used, size - used, "]");
}

static qe_status say_shape(const qe_model *model, const qe_param *param, const qe_named_tensor *tensor,
                           const char *file) {
  char is[160], wanted[160];
  int64_t shape[QE_MAX_RANK];
  int rank = file_shape(model->graph, param, shape);
  shape_text(is, sizeof is, tensor->rank, tensor->shape);
  shape_text(wanted, sizeof wanted, rank, shape);
  return qe_fail(QE_FORMAT, "%s: tensor %s is %s%s, %s needs f32%s: is it a file of another model?", file, param->name,
                 qe_dtype_name(tensor->dtype), is, model->spec.name, wanted);
}

static bool is_step(const qe_param *param) {
  return ends_with(param->name, "step");
}

/* The tensor with a parameter's values. NULL: steps that the file lacks, or has per tensor where they are per channel
 * or the other way round; they are to be fitted anew. */
static qe_status find_values(const qe_model *model, const qe_param *param, const qe_tensors *tensors, const char *file,
                             const qe_named_tensor **found) {
  const qe_named_tensor *tensor = qe_tensors_find(tensors, param->name);
  *found = NULL;
  if (is_step(param) && (!tensor || tensor->bytes != qe_bytes(&param->desc))) return QE_OK;
  if (!tensor)
    return qe_fail(QE_FORMAT, "%s has no tensor %s, which %s needs: is it a file of another model?", file, param->name,
                   model->spec.name);
  if (!same_shape(model->graph, param, tensor)) return say_shape(model, param, tensor, file);
  *found = tensor;
  return QE_OK;
}

qe_status qe_model_take(qe_model *model, const qe_tensors *tensors, const char *file) {
  for (size_t i = 0; i < model->graph->params; i++) {
    qe_param *param = &model->graph->param[i];
    const qe_named_tensor *tensor;
    QE_TRY(find_values(model, param, tensors, file, &tensor));
    if (!tensor) continue;
    const float *values = tensor->data;
    memcpy(qe_model_values(model, (int)i), values, tensor->bytes);
    param->initialised = true;
    for (size_t k = 0; k < tensor->bytes / sizeof *values; k++)
      if (!isfinite(values[k]) || (is_step(param) && values[k] <= 0))
        return qe_fail(QE_FORMAT, "%s: tensor %s holds %g at %zu", file, param->name, (double)values[k], k);
  }
  return QE_OK;
}

static qe_status set_number(qe_tensors *tensors, const char *key, int value) {
  char text[32];
  snprintf(text, sizeof text, "%d", value);
  return qe_tensors_set_meta(tensors, key, text);
}

static qe_status give_spec(const qe_model_spec *spec, qe_tensors *tensors) {
  char text[64];
  QE_TRY(qe_tensors_set_meta(tensors, "format", "qevo-gpu model 1"));
  QE_TRY(qe_tensors_set_meta(tensors, "model", spec->name));
  if (spec->net) QE_TRY(qe_tensors_set_meta(tensors, "network", spec->net));
  snprintf(text, sizeof text, "%c", spec->shortcut);
  QE_TRY(qe_tensors_set_meta(tensors, "shortcut", text));
  snprintf(text, sizeof text, "%dx%dx%d", spec->height, spec->width, spec->channels);
  QE_TRY(qe_tensors_set_meta(tensors, "input", text));
  QE_TRY(set_number(tensors, "classes", spec->classes));
  QE_TRY(set_number(tensors, "weight_bits", spec->bits.weights));
  QE_TRY(set_number(tensors, "act_bits", spec->bits.activations));
  QE_TRY(set_number(tensors, "first_last_bits", spec->bits.edges));
  QE_TRY(set_number(tensors, "residual_bits", spec->bits.residual));
  QE_TRY(qe_tensors_set_meta(tensors, "weight_quantizer", qe_rule_name(spec->bits.weight_rule)));
  QE_TRY(qe_tensors_set_meta(tensors, "act_quantizer", qe_rule_name(spec->bits.activation_rule)));
  QE_TRY(set_number(tensors, "per_channel", spec->bits.per_channel));
  return qe_tensors_set_meta(tensors, "layer_bits", spec->bits.layers ? spec->bits.layers : "");
}

/* Of a description in a file the text counts, not the path. */
qe_status qe_model_check_spec(const qe_model *model, const qe_tensors *tensors, const char *file) {
  qe_tensors *own = qe_tensors_new();
  qe_status status = own ? give_spec(&model->spec, own) : QE_NO_MEMORY;
  for (size_t i = 0; status == QE_OK && i < own->meta_count; i++) {
    const char *key = own->meta[i].key, *is = own->meta[i].value, *was = qe_tensors_get_meta(tensors, key);
    if (model->spec.net && strcmp(key, "model") == 0) continue;
    if (was && strcmp(is, was) == 0) continue;
    if (strcmp(key, "network") == 0)
      status = qe_fail(QE_USAGE, "%s was made with another network than %s describes: resume with the run's own", file,
                       model->spec.name);
    else
      status =
          qe_fail(QE_USAGE, "%s was made with %s '%.80s', this run has '%.80s': resume with the options of the run",
                  file, key, was ? was : "", is);
  }
  qe_tensors_free(own);
  return status;
}

qe_status qe_model_give(const qe_model *model, qe_tensors *tensors) {
  for (size_t i = 0; i < model->graph->params; i++) {
    const qe_param *param = &model->graph->param[i];
    if (is_step(param) && !param->initialised) continue;
    int64_t shape[QE_MAX_RANK];
    int rank = file_shape(model->graph, param, shape);
    QE_TRY(qe_tensors_add(tensors, param->name, QE_F32, rank, shape, qe_model_values(model, (int)i)));
  }
  return give_spec(&model->spec, tensors);
}

static qe_status read_text(const qe_tensors *tensors, const char *file, const char *key, const char **text) {
  *text = qe_tensors_get_meta(tensors, key);
  if (!*text) return qe_fail(QE_FORMAT, "%s: no '%s' in its metadata; not a model of qevo-gpu", file, key);
  return QE_OK;
}

static qe_status read_number(const qe_tensors *tensors, const char *file, const char *key, int *value) {
  const char *text;
  QE_TRY(read_text(tensors, file, key, &text));
  char *end;
  errno = 0;
  long number = strtol(text, &end, 10);
  if (errno || end == text || *end || number < 0 || number > 1 << 20)
    return qe_fail(QE_FORMAT, "%s: metadata '%s' is '%s', must be a small number", file, key, text);
  *value = (int)number;
  return QE_OK;
}

static qe_status read_rule(const qe_tensors *tensors, const char *file, const char *key, qe_rule *rule) {
  const char *text;
  QE_TRY(read_text(tensors, file, key, &text));
  for (int i = 0; i < QE_RULES; i++) {
    if (strcmp(qe_rule_name((qe_rule)i), text) != 0) continue;
    *rule = (qe_rule)i;
    return QE_OK;
  }
  return qe_fail(QE_FORMAT, "%s: metadata '%s' is '%s', which is no quantiser", file, key, text);
}

qe_status qe_model_read_spec(const qe_tensors *tensors, const char *file, qe_model_spec *spec) {
  const char *format, *shortcut, *input;
  int per_channel;
  memset(spec, 0, sizeof *spec);
  QE_TRY(read_text(tensors, file, "format", &format));
  if (strncmp(format, "qevo-gpu network ", 17) == 0)
    return qe_fail(QE_FORMAT, "%s is an integer network; what is needed here is the model that it was made of", file);
  if (strcmp(format, "qevo-gpu model 1") != 0)
    return qe_fail(QE_FORMAT, "%s: format '%s'; this version reads 'qevo-gpu model 1'", file, format);
  QE_TRY(read_text(tensors, file, "model", &spec->name));
  QE_TRY(read_text(tensors, file, "shortcut", &shortcut));
  QE_TRY(read_text(tensors, file, "input", &input));
  spec->net = qe_tensors_get_meta(tensors, "network");
  spec->shortcut = shortcut[0];
  char rest;
  if (sscanf(input, "%5dx%5dx%5d%c", &spec->height, &spec->width, &spec->channels, &rest) != 3)
    return qe_fail(QE_FORMAT, "%s: metadata 'input' is '%s', must be like 32x32x3", file, input);
  QE_TRY(read_number(tensors, file, "classes", &spec->classes));
  QE_TRY(read_number(tensors, file, "weight_bits", &spec->bits.weights));
  QE_TRY(read_number(tensors, file, "act_bits", &spec->bits.activations));
  QE_TRY(read_number(tensors, file, "first_last_bits", &spec->bits.edges));
  QE_TRY(read_number(tensors, file, "residual_bits", &spec->bits.residual));
  QE_TRY(read_rule(tensors, file, "weight_quantizer", &spec->bits.weight_rule));
  QE_TRY(read_rule(tensors, file, "act_quantizer", &spec->bits.activation_rule));
  QE_TRY(read_number(tensors, file, "per_channel", &per_channel));
  QE_TRY(read_text(tensors, file, "layer_bits", &spec->bits.layers));
  spec->bits.per_channel = per_channel != 0;
  return QE_OK;
}

/* Every parameter has its values in the file. */
static qe_status check_whole(const qe_model *model, const qe_tensors *tensors, const char *file) {
  for (size_t i = 0; i < model->graph->params; i++) {
    const qe_param *param = &model->graph->param[i];
    const qe_named_tensor *tensor;
    QE_TRY(find_values(model, param, tensors, file, &tensor));
    if (!tensor)
      return qe_fail(QE_FORMAT,
                     "%s has no tensor %s: it was saved before its quantisers had steps; train it further, "
                     "with --init",
                     file, param->name);
  }
  return QE_OK;
}

qe_status qe_model_of_tensors(const qe_tensors *tensors, const char *file, qe_model **out) {
  qe_model *model = NULL;
  qe_model_spec spec;
  QE_TRY(qe_model_read_spec(tensors, file, &spec));
  qe_status status = build(&spec, &model);
  if (status != QE_OK) return qe_fail_within(status, "%s", file);
  status =
      check_whole(model, tensors, file); /* a few words can ask for any size: no memory before the values are seen */
  if (status == QE_OK) status = make_values(model);
  if (status == QE_OK) status = qe_model_take(model, tensors, file);
  if (status == QE_OK)
    *out = model;
  else
    qe_model_free(model);
  return status;
}

qe_status qe_model_read(const char *path, qe_model **model, qe_tensors **keep) {
  qe_tensors *tensors = NULL;
  QE_TRY(qe_tensors_read(path, &tensors));
  qe_status status = qe_model_of_tensors(tensors, path, model);
  if (status == QE_OK && keep)
    *keep = tensors;
  else
    qe_tensors_free(tensors);
  return status;
}
