/* Writing and reading integer networks. What is read may come from anywhere: nothing is believed before it is checked.
 */
#include "core/dispatch/network_file.h"

#include "core/base/alloc.h"
#include "core/base/json.h"
#include "core/base/json_read.h"
#include "core/dispatch/network_parts.h"

#include <cjson/cJSON.h>
#include <stddef.h>
#include <string.h>

#define FAMILY "qevo-gpu network "
static const char format[] = FAMILY "1";

/* ---- attributes: one table for both directions ---- */

typedef struct field {
  const char *name;
  size_t at; /* in qe_network_layer */
  int count; /* s32 values; 1: a number, else a list */
} field;

#define FIELD(name, member, count)                                                                                     \
  { name, offsetof(qe_network_layer, member), count }

static const field window_fields[] = {FIELD("kernel", attrs.window.kernel, 2), FIELD("stride", attrs.window.stride, 2),
                                      FIELD("pad", attrs.window.pad, 4)};
static const field conv_fields[] = {FIELD("dilation", attrs.window.dilation, 2),
                                    FIELD("groups", attrs.window.groups, 1),
                                    FIELD("channels", attrs.window.channels, 1),
                                    FIELD("weight", weight_desc.dim[QE_N], 4),
                                    FIELD("bits", grid.bits, 1),
                                    FIELD("low", grid.low, 1),
                                    FIELD("spacing", grid.spacing, 1),
                                    FIELD("high", grid.high, 1)};
static const field requant_fields[] = {FIELD("shift", attrs.requant.shift, 1), FIELD("low", attrs.requant.low, 1),
                                       FIELD("high", attrs.requant.high, 1)};
static const field subsample_fields[] = {FIELD("stride", attrs.window.stride, 2),
                                         FIELD("pad_channels", attrs.pad_channels, 2)};

typedef struct field_list {
  const field *list;
  size_t count;
} field_list;

#define LIST(name)                                                                                                     \
  { name, sizeof name / sizeof *name }

static const struct op_fields {
  qe_op op;
  int inputs;
  field_list fields[2];
} op_table[] = {
    {QE_OP_int_gather, 0, {{NULL, 0}, {NULL, 0}}},
    {QE_OP_int_conv2d, 1, {LIST(window_fields), LIST(conv_fields)}},
    {QE_OP_int_requant, 1, {LIST(requant_fields), {NULL, 0}}},
    {QE_OP_int_requant_add, 2, {LIST(requant_fields), {NULL, 0}}},
    {QE_OP_int_sum_pool, 1, {LIST(window_fields), {NULL, 0}}},
    {QE_OP_int_max_pool, 1, {LIST(window_fields), {NULL, 0}}},
    {QE_OP_int_subsample, 1, {LIST(subsample_fields), {NULL, 0}}},
};

static const struct op_fields *fields_of(qe_op op) {
  for (size_t i = 0; i < sizeof op_table / sizeof *op_table; i++)
    if (op_table[i].op == op) return &op_table[i];
  return NULL;
}

static bool is_requant(qe_op op) {
  return op == QE_OP_int_requant || op == QE_OP_int_requant_add;
}

/* "17.stage1.0.conv1.weight" (qe_free); NULL without memory. */
static char *tensor_name(const qe_network_layer *layer, size_t at, const char *part) {
  return qe_format("%zu.%s.%s", at, layer->name, part);
}

static const char *const multiplier_part[2] = {"multiplier0", "multiplier1"};

/* ---- writing ---- */

static void write_numbers(qe_json *json, const char *name, const int32_t *values, int count) {
  if (count == 1) {
    qe_json_int(json, name, *values);
    return;
  }
  qe_json_open_array(json, name);
  for (int i = 0; i < count; i++) qe_json_int(json, NULL, values[i]);
  qe_json_close(json);
}

static void write_layer(qe_json *json, const qe_network_layer *layer) {
  const struct op_fields *known = fields_of(layer->op);
  qe_json_open_object(json, NULL);
  qe_json_text(json, "name", layer->name);
  qe_json_text(json, "op", qe_op_get_info(layer->op)->name);
  qe_json_open_array(json, "inputs");
  for (int k = 0; k < layer->inputs; k++) qe_json_int(json, NULL, layer->input[k]);
  qe_json_close(json);
  qe_json_text(json, "type", qe_dtype_name(layer->output.dtype));
  write_numbers(json, "output", &layer->output.dim[QE_H], 3);
  for (int list = 0; list < 2; list++)
    for (size_t i = 0; i < known->fields[list].count; i++) {
      const field *f = &known->fields[list].list[i];
      write_numbers(json, f->name, (const int32_t *)(const void *)((const char *)layer + f->at), f->count);
    }
  qe_json_close(json);
}

static qe_status give_layers(const qe_network *network, qe_tensors *tensors) {
  qe_json json = {0};
  char *text;
  qe_json_open_array(&json, NULL);
  for (size_t i = 0; i < network->layers; i++) write_layer(&json, &network->layer[i]);
  qe_json_close(&json);
  QE_TRY(qe_json_finish(&json, &text, NULL));
  qe_status status = qe_tensors_set_meta(tensors, "layers", text);
  qe_free(text);
  return status;
}

static qe_status give_tensor(qe_tensors *tensors, const qe_network_layer *layer, size_t at, const char *part,
                             qe_dtype dtype, int64_t count, const void *data) {
  char *name = tensor_name(layer, at, part);
  qe_status status = name ? qe_tensors_add(tensors, name, dtype, 1, &count, data) : QE_NO_MEMORY;
  qe_free(name);
  return status;
}

static qe_status give_weight(qe_tensors *tensors, const qe_network_layer *layer, size_t at) {
  int64_t count = qe_count(&layer->weight_desc);
  size_t bytes = qe_packed_bytes(count, layer->grid.bits);
  void *packed = qe_alloc(bytes);
  if (!packed) return QE_NO_MEMORY;
  qe_pack(&layer->grid, layer->weight, count, packed);
  qe_status status = give_tensor(tensors, layer, at, "weight", QE_U8, (int64_t)bytes, packed);
  qe_free(packed);
  return status;
}

static qe_status give_constants(qe_tensors *tensors, const qe_network_layer *layer, size_t at) {
  int64_t channels = layer->output.dim[QE_C];
  if (layer->weight) return give_weight(tensors, layer, at);
  for (int b = 0; b < 2; b++)
    if (layer->multiplier[b])
      QE_TRY(give_tensor(tensors, layer, at, multiplier_part[b], QE_S32, channels, layer->multiplier[b]));
  return layer->offset ? give_tensor(tensors, layer, at, "offset", QE_S64, channels, layer->offset) : QE_OK;
}

qe_status qe_network_give(const qe_network *network, qe_tensors *tensors) {
  QE_TRY(qe_tensors_set_meta(tensors, "format", format));
  QE_TRY(give_layers(network, tensors));
  for (size_t i = 0; i < network->layers; i++) QE_TRY(give_constants(tensors, &network->layer[i], i));
  return QE_OK;
}

qe_status qe_network_write(const qe_network *network, const char *path) {
  QE_TRY(qe_network_check(network));
  qe_tensors *tensors = qe_tensors_new();
  qe_status status = tensors ? qe_network_give(network, tensors) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_tensors_write(tensors, path);
  qe_tensors_free(tensors);
  return status;
}

/* ---- reading ---- */

static qe_status read_numbers(const cJSON *object, const char *name, int count, int32_t *values) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  if (count > 1 && (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != count))
    return qe_fail(QE_FORMAT, "\"%s\" is not a list of %d numbers", name, count);
  const cJSON *number = count > 1 ? item->child : item;
  for (int i = 0; i < count; i++, number = number->next) {
    int64_t value;
    if (!qe_json_whole(number, INT32_MIN, INT32_MAX, &value))
      return qe_fail(QE_FORMAT, "\"%s\" is missing, or no whole number of 32 bits", name);
    values[i] = (int32_t)value;
  }
  return QE_OK;
}

static qe_status read_text(const cJSON *object, const char *name, const char **text) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
  if (!cJSON_IsString(item)) return qe_fail(QE_FORMAT, "\"%s\" is missing, or no text", name);
  *text = item->valuestring;
  return QE_OK;
}

static qe_status read_inputs(const cJSON *object, qe_network_layer *layer) {
  const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, "inputs"), *item = list ? list->child : NULL;
  if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != layer->inputs)
    return qe_fail(QE_FORMAT, "\"inputs\" is not a list of %d layers", layer->inputs);
  for (int k = 0; item && k < layer->inputs; k++, item = item->next) {
    int64_t value;
    if (!qe_json_whole(item, 0, INT32_MAX, &value)) return qe_fail(QE_FORMAT, "an input is no number of a layer");
    layer->input[k] = (int)value;
  }
  return QE_OK;
}

static qe_status read_output(const cJSON *object, qe_network_layer *layer) {
  const char *type = "";
  QE_TRY(read_text(object, "type", &type));
  int dtype = 0;
  while (dtype < QE_DTYPES && strcmp(qe_dtype_name((qe_dtype)dtype), type) != 0) dtype++;
  if (dtype == QE_DTYPES) return qe_fail(QE_FORMAT, "\"type\" is no type of numbers");
  layer->output = qe_map((qe_dtype)dtype, 1, 0, 0, 0);
  return read_numbers(object, "output", 3, &layer->output.dim[QE_H]);
}

static qe_status read_attributes(const cJSON *object, qe_network_layer *layer) {
  const char *op = "";
  QE_TRY(read_text(object, "op", &op));
  layer->op = qe_op_find(op);
  const struct op_fields *known = layer->op == QE_OPS ? NULL : fields_of(layer->op);
  if (!known) return qe_fail(QE_FORMAT, "\"op\" is no op of integer networks");
  layer->inputs = known->inputs;
  QE_TRY(read_inputs(object, layer));
  QE_TRY(read_output(object, layer));
  for (int list = 0; list < 2; list++)
    for (size_t i = 0; i < known->fields[list].count; i++) {
      const field *f = &known->fields[list].list[i];
      QE_TRY(read_numbers(object, f->name, f->count, (int32_t *)(void *)((char *)layer + f->at)));
    }
  return QE_OK;
}

typedef struct reader {
  const qe_tensors *tensors;
  size_t used; /* tensors that belong to a layer */
  qe_network *network;
} reader;

/* New memory with `count` elements of a tensor that has just so many. */
static qe_status copy_tensor(reader *r, const qe_network_layer *layer, size_t at, const char *part, qe_dtype dtype,
                             size_t count, void **to) {
  char *name = tensor_name(layer, at, part);
  if (!name) return QE_NO_MEMORY;
  const qe_named_tensor *tensor = qe_tensors_find(r->tensors, name);
  qe_free(name);
  size_t bytes = count * qe_dtype_bytes(dtype);
  if (!tensor) return qe_fail(QE_FORMAT, "the file has no tensor for its %s", part);
  if (tensor->dtype != dtype || tensor->rank != 1 || tensor->bytes != bytes)
    return qe_fail(QE_FORMAT, "its %s must be %zu numbers of type %s", part, count, qe_dtype_name(dtype));
  void *copy = qe_alloc(bytes);
  if (!copy) return QE_NO_MEMORY;
  memcpy(copy, tensor->data, bytes);
  *to = copy;
  r->used++;
  return QE_OK;
}

/* Memory for the codes is at most 8 times the packed tensor, which is there. */
static qe_status read_weight(reader *r, qe_network_layer *layer, size_t at) {
  const qe_code_grid *grid = &layer->grid;
  layer->weight_desc.dtype = QE_S8;
  layer->weight_desc.dim[QE_P] = 1;
  int64_t count = qe_count(&layer->weight_desc);
  if (!qe_grid_is_sound(grid) || count == 0) return qe_fail(QE_FORMAT, "its weight or its grid is not sound");
  void *packed = NULL;
  QE_TRY(copy_tensor(r, layer, at, "weight", QE_U8, qe_packed_bytes(count, grid->bits), &packed));
  int64_t bad = qe_packed_find_bad(grid, packed, count);
  layer->weight = bad < 0 ? qe_alloc((size_t)count) : NULL;
  if (layer->weight) qe_unpack(grid, packed, count, layer->weight);
  qe_free(packed);
  if (bad >= 0) return qe_fail(QE_FORMAT, "weight %lld is no code of its grid", (long long)bad);
  return layer->weight ? QE_OK : QE_NO_MEMORY;
}

static qe_status read_requant(reader *r, qe_network_layer *layer, size_t at) {
  if (layer->output.dim[QE_C] < 1) return qe_fail(QE_FORMAT, "its output has no channels");
  size_t channels = (size_t)layer->output.dim[QE_C];
  void *copy = NULL;
  for (int b = 0; b < 2 && b < layer->inputs; b++) {
    QE_TRY(copy_tensor(r, layer, at, multiplier_part[b], QE_S32, channels, &copy));
    layer->multiplier[b] = copy;
  }
  QE_TRY(copy_tensor(r, layer, at, "offset", QE_S64, channels, &copy));
  layer->offset = copy;
  layer->attrs.requant.to = layer->output.dtype;
  int32_t second = layer->input[layer->inputs - 1];
  if ((size_t)second >= at) return qe_fail(QE_FORMAT, "input %d, which is not a layer before it", second);
  layer->attrs.requant.from = r->network->layer[second].output.dtype;
  return QE_OK;
}

/* What a layer's object does not say: a pooling window has no dilation and one group, and all channels. */
static void set_window(qe_network_layer *layer) {
  qe_window *window = &layer->attrs.window;
  if (layer->op != QE_OP_int_sum_pool && layer->op != QE_OP_int_max_pool) return;
  window->dilation[0] = window->dilation[1] = window->groups = 1;
  window->channels = layer->output.dim[QE_C];
}

static qe_status fill_layer(reader *r, const cJSON *object, qe_network_layer *layer, size_t at) {
  const char *name = "";
  if (!cJSON_IsObject(object)) return qe_fail(QE_FORMAT, "it is not an object");
  QE_TRY(read_text(object, "name", &name));
  layer->name = qe_strdup(name);
  if (!layer->name) return QE_NO_MEMORY;
  QE_TRY(read_attributes(object, layer));
  set_window(layer);
  if (layer->op == QE_OP_int_conv2d) return read_weight(r, layer, at);
  return is_requant(layer->op) ? read_requant(r, layer, at) : QE_OK;
}

static qe_status read_layer(reader *r, const cJSON *object) {
  qe_network_layer layer = {0};
  size_t at = r->network->layers;
  qe_status status = fill_layer(r, object, &layer, at);
  if (status != QE_OK) (void)qe_fail_within(status, "layer %zu", at);
  if (status == QE_OK) status = qe_network_add(r->network, &layer);
  if (status != QE_OK) {
    qe_network_layer_clear(&layer);
    return status;
  }
  QE_TRY(qe_network_check_layer(r->network, at));
  qe_network_prove_layer(r->network, at);
  return QE_OK;
}

static qe_status read_layers(reader *r, const cJSON *list) {
  if (!cJSON_IsArray(list)) return qe_fail(QE_FORMAT, "its metadata \"layers\" is no JSON list");
  const cJSON *object;
  cJSON_ArrayForEach(object, list) QE_TRY(read_layer(r, object));
  if (r->used != r->tensors->count)
    return qe_fail(QE_FORMAT, "%zu tensors belong to no layer", r->tensors->count - r->used);
  return qe_network_check(r->network);
}

bool qe_network_is_file(const qe_tensors *tensors) {
  const char *is = qe_tensors_get_meta(tensors, "format");
  return is && strncmp(is, FAMILY, strlen(FAMILY)) == 0;
}

qe_status qe_network_take(const qe_tensors *tensors, const char *file, qe_network **network) {
  const char *is = qe_tensors_get_meta(tensors, "format"), *text = qe_tensors_get_meta(tensors, "layers");
  if (!is || strcmp(is, format) != 0)
    return qe_fail(QE_FORMAT, "%s: its format is not '%s', which this version reads", file, format);
  reader r = {.tensors = tensors, .network = QE_NEW(qe_network)};
  if (!r.network) return QE_NO_MEMORY;
  cJSON *list = text ? qe_json_parse(text, strlen(text)) : NULL;
  qe_status status = read_layers(&r, list);
  cJSON_Delete(list);
  if (status == QE_OK) {
    *network = r.network;
    return QE_OK;
  }
  qe_network_free(r.network);
  return qe_fail_within(status, "%s", file);
}

qe_status qe_network_read(const char *path, qe_network **network) {
  qe_tensors *tensors = NULL;
  QE_TRY(qe_tensors_read(path, &tensors));
  qe_status status = qe_network_take(tensors, path, network);
  qe_tensors_free(tensors);
  return status;
}
