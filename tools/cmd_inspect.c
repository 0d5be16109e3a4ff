/* qevo-gpu inspect: what is in a model, an integer network, a checkpoint or any safetensors file, without data. */
#include "core/base/alloc.h"
#include "core/dispatch/network_file.h"
#include "tools/command.h"
#include "tools/inspect.h"
#include "tools/setup.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

enum { META_SHOWN = 160 }; /* bytes of a metadata value that are printed as text */

typedef struct subject {
  const char *file, *kind;
  const qe_tensors *tensors;
  int64_t file_bytes;
  bool costed; /* the two below are filled */
  qe_cost_table cost;
  qe_inspect_layers layers;
} subject;

/* ---- tensors ---- */

static int64_t elements(const qe_named_tensor *tensor) {
  return (int64_t)(tensor->bytes / qe_dtype_bytes(tensor->dtype));
}

/* Least and largest number of an f32 tensor; false when it has none, of another type or not finite. */
static bool value_range(const qe_named_tensor *tensor, float *least, float *largest) {
  const float *values = tensor->data;
  int64_t count = elements(tensor);
  if (tensor->dtype != QE_F32 || count == 0) return false;
  *least = *largest = values[0];
  for (int64_t i = 0; i < count; i++) {
    if (!isfinite(values[i])) return false;
    *least = fminf(*least, values[i]);
    *largest = fmaxf(*largest, values[i]);
  }
  return true;
}

static void print_tensor(const qe_named_tensor *tensor) {
  float least, largest;
  printf("%-32s %-4s [", tensor->name, qe_safetensors_dtype(tensor->dtype));
  for (int i = 0; i < tensor->rank; i++) printf("%s%lld", i ? "," : "", (long long)tensor->shape[i]);
  printf("] %zu bytes", tensor->bytes);
  if (value_range(tensor, &least, &largest)) printf(", %.4g … %.4g", (double)least, (double)largest);
  putchar('\n');
}

static void json_tensor(const qe_named_tensor *tensor, qe_json *json) {
  float least, largest;
  qe_json_open_object(json, NULL);
  qe_json_text(json, "name", tensor->name);
  qe_json_text(json, "dtype", qe_safetensors_dtype(tensor->dtype));
  qe_json_open_array(json, "shape");
  for (int i = 0; i < tensor->rank; i++) qe_json_int(json, NULL, tensor->shape[i]);
  qe_json_close(json);
  qe_json_int(json, "bytes", (int64_t)tensor->bytes);
  if (value_range(tensor, &least, &largest)) {
    qe_json_float(json, "least", least);
    qe_json_float(json, "largest", largest);
  }
  qe_json_close(json);
}

/* ---- the whole ---- */

/* The list of a network's layers is shown as its table. */
static bool is_shown(const subject *of, const qe_meta *meta) {
  return !of->costed || (strcmp(meta->key, "layers") != 0 && strcmp(meta->key, "network.layers") != 0);
}

static void print_text(const subject *of) {
  int width = qe_terminal_width(stdout);
  printf("%s: %s, %lld bytes, %zu tensors\n", of->file, of->kind, (long long)of->file_bytes, of->tensors->count);
  for (size_t i = 0; i < of->tensors->meta_count; i++) {
    const qe_meta *meta = &of->tensors->meta[i];
    bool cut = strlen(meta->value) > META_SHOWN;
    if (is_shown(of, meta))
      printf("  %s: %.*s%s\n", meta->key, META_SHOWN, *meta->value ? meta->value : "-", cut ? "…" : "");
  }
  putchar('\n');
  if (of->costed) {
    qe_cost_table_print(&of->cost, stdout);
    putchar('\n');
    qe_inspect_print(&of->layers, width > 0 ? width : 120, stdout);
    return;
  }
  for (size_t i = 0; i < of->tensors->count; i++) print_tensor(&of->tensors->items[i]);
}

static qe_status print_json(const subject *of) {
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "file", of->file);
  qe_json_text(&json, "kind", of->kind);
  qe_json_int(&json, "file_bytes", of->file_bytes);
  qe_json_open_object(&json, "metadata");
  for (size_t i = 0; i < of->tensors->meta_count; i++)
    if (is_shown(of, &of->tensors->meta[i])) qe_json_text(&json, of->tensors->meta[i].key, of->tensors->meta[i].value);
  qe_json_close(&json);
  if (of->costed) {
    qe_cost_table_json(&of->cost, &json);
    qe_inspect_json(&of->layers, &json);
  }
  qe_json_open_array(&json, "tensors");
  for (size_t i = 0; i < of->tensors->count; i++) json_tensor(&of->tensors->items[i], &json);
  qe_json_close(&json);
  qe_json_close(&json);
  return qe_print_json(&json);
}

static qe_status report(const qe_options *options, subject *of) {
  qe_status status = QE_OK;
  if (qe_option_flag(options, "json"))
    status = print_json(of);
  else
    print_text(of);
  qe_cost_table_free(&of->cost);
  qe_inspect_free(&of->layers);
  return status;
}

static qe_status inspect_network(const qe_options *options, const qe_tensors *tensors, subject *of) {
  qe_network *network;
  QE_TRY(qe_network_take(tensors, of->file, &network));
  of->costed = true;
  qe_status status = qe_cost_of_network(network, &of->cost);
  if (status == QE_OK) status = qe_inspect_network(network, &of->layers);
  if (status == QE_OK)
    status = report(options, of);
  else
    qe_cost_table_free(&of->cost);
  qe_network_free(network);
  return status;
}

/* The network under search stands in its checkpoint, each name with a prefix. */
static qe_status inspect_search(const qe_options *options, subject *of) {
  qe_tensors *inner;
  QE_TRY(qe_tensors_pick(of->tensors, "network", &inner));
  qe_status status = qe_network_is_file(inner) ? inspect_network(options, inner, of) : report(options, of);
  qe_tensors_free(inner);
  return status;
}

static qe_status inspect_model(const qe_options *options, subject *of) {
  qe_model_spec spec;
  qe_model *model;
  QE_TRY(qe_model_read_spec(of->tensors, of->file, &spec));
  QE_TRY(qe_model_new(&spec, 1, &model));
  of->kind = qe_tensors_get_meta(of->tensors, "position.epoch") ? "checkpoint of a training run" : "model";
  of->costed = true;
  qe_status status = qe_model_take(model, of->tensors, of->file);
  if (status == QE_OK) status = qe_cost_of_graph(model->graph, &of->cost);
  if (status == QE_OK) status = qe_inspect_model(model, &of->layers);
  if (status == QE_OK)
    status = report(options, of);
  else
    qe_cost_table_free(&of->cost);
  qe_model_free(model);
  return status;
}

static qe_status inspect(const qe_options *options, const char *path) {
  subject of = {.file = path};
  struct stat file;
  qe_tensors *tensors;
  QE_TRY(qe_tensors_read(of.file, &tensors));
  of.tensors = tensors;
  of.file_bytes = stat(of.file, &file) == 0 ? (int64_t)file.st_size : 0;
  const char *format = qe_tensors_get_meta(tensors, "format");
  bool network = qe_network_is_file(tensors), search = !format && qe_tensors_get_meta(tensors, "phase");
  of.kind = network ? "integer network" : search ? "checkpoint of a search" : "tensors";
  bool model = format && strncmp(format, "qevo-gpu model ", 15) == 0;
  qe_status status = network  ? inspect_network(options, tensors, &of)
                     : search ? inspect_search(options, &of)
                     : model  ? inspect_model(options, &of)
                              : report(options, &of);
  qe_tensors_free(tensors);
  return status;
}

qe_status qe_cmd_inspect(qe_options *options) {
  char *file;
  QE_TRY(qe_file_meant(qe_options_positional(options, 0), QE_RUN_MODEL, &file));
  qe_status status = inspect(options, file);
  qe_free(file);
  return status;
}
