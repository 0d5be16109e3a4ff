/* qevo-gpu eval: accuracy, loss and cost of a model or of an integer network. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/dispatch/network_file.h"
#include "core/graph/cost_table.h"
#include "core/train/trainer.h"
#include "tools/setup.h"

#include <errno.h>
#include <string.h>

/* What was evaluated, for the report. */
typedef struct subject {
  const char *name;
  bool integer;
  qe_cost_table cost;
  qe_score score;
  bool twins;
  double agreement; /* per cent, with `twins` */
} subject;

static qe_status report(const qe_options *options, const qe_setup *setup, const subject *of) {
  const qe_score *score = &of->score;
  if (!qe_option_flag(options, "json")) {
    qe_cost_table_print(&of->cost, stdout);
    printf("top-1 %.2f %%, loss %.4f, %lld test images (%s, backend %s)\n", score->top1, score->loss,
           (long long)score->images, setup->data->source, setup->device->backend->name);
    if (of->twins) printf("the float and the integer network predict the same class for %.2f %%\n", of->agreement);
    return QE_OK;
  }
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_real(&json, "top1", score->top1);
  qe_json_real(&json, "loss", score->loss);
  qe_json_int(&json, "images", score->images);
  qe_json_text(&json, "backend", setup->device->backend->name);
  qe_json_bool(&json, "integer", of->integer);
  if (of->twins) qe_json_real(&json, "agreement", of->agreement);
  qe_json_text(&json, "model", of->name);
  qe_json_text(&json, "data", setup->data->source);
  qe_cost_table_json(&of->cost, &json);
  qe_json_close(&json);
  return qe_print_json(&json);
}

/* ---- models ---- */

static qe_status check_data(const qe_model *model, const qe_dataset *data, const char *file) {
  const qe_model_spec *spec = &model->spec;
  if (spec->height == data->height && spec->width == data->width && spec->channels == data->channels &&
      spec->classes == data->classes)
    return QE_OK;
  return qe_fail(QE_SHAPE, "%s takes %dx%dx%d images of %d classes, %s has %dx%dx%d of %d: choose other --data", file,
                 spec->height, spec->width, spec->channels, spec->classes, data->name, data->height, data->width,
                 data->channels, data->classes);
}

/* Every parameter must have come from the file: a quantiser without its step would be evaluated at a default. */
static qe_status check_complete(const qe_model *model, const char *file) {
  for (size_t i = 0; i < model->graph->params; i++)
    if (!model->graph->param[i].initialised)
      return qe_fail(QE_FORMAT, "%s has no tensor %s, which %s needs", file, model->graph->param[i].name,
                     model->spec.name);
  return QE_OK;
}

/* The score reported is that of the network asked for. */
static qe_status evaluate_twins(const qe_setup *setup, const qe_model *model, int32_t batch, subject *of) {
  qe_twins twins;
  QE_TRY(qe_evaluate_twins(setup->device, model, setup->data, batch, &twins));
  of->score = of->integer ? twins.integer : twins.real;
  of->agreement = twins.agreement;
  return QE_OK;
}

static qe_status evaluate_model(const qe_options *options, const char *file, const qe_setup *setup,
                                const qe_model *model) {
  subject of = {.name = model->spec.name,
                .integer = qe_option_flag(options, "integer"),
                .twins = qe_option_flag(options, "agreement")};
  QE_TRY(check_data(model, setup->data, file));
  QE_TRY(check_complete(model, file));
  QE_TRY(qe_dump_graph(options, model->graph));
  FILE *explain = qe_option_flag(options, "explain") ? stderr : NULL;
  int32_t batch = (int32_t)qe_option_int(options, "batch");
  qe_status status = of.twins     ? evaluate_twins(setup, model, batch, &of)
                     : of.integer ? qe_evaluate_integer(setup->device, model, setup->data, batch, explain, &of.score)
                                  : qe_evaluate(setup->device, model, setup->data, batch, explain, &of.score);
  if (status != QE_OK) return qe_fail_within(status, "%s", file);
  QE_TRY(qe_cost_of_graph(model->graph, &of.cost));
  status = report(options, setup, &of);
  qe_cost_table_free(&of.cost);
  return status;
}

/* Images of a folder are brought to the size that the network takes, unless another is asked for. */
static qe_status take_image_size(qe_options *options, int32_t side) {
  char text[16];
  snprintf(text, sizeof text, "%d", side);
  return qe_option_set(options, "image-size", text, QE_FROM_DEFAULT, "--image-size", "the model");
}

static qe_status eval_model(qe_options *options, const char *file, const qe_tensors *tensors) {
  qe_model *model;
  qe_setup setup;
  QE_TRY(qe_model_of_tensors(tensors, file, &model));
  qe_status status = take_image_size(options, model->spec.height);
  if (status == QE_OK) status = qe_setup_open(options, 1, &setup);
  if (status == QE_OK) {
    status = evaluate_model(options, file, &setup, model);
    qe_setup_close(&setup);
  }
  qe_model_free(model);
  return status;
}

/* ---- integer networks ---- */

static qe_status dump_network(const qe_options *options, const qe_network *network) {
  const char *path = qe_option_text(options, "dump"), *dot = qe_option_text(options, "dump-dot");
  if (dot && *dot) return qe_fail(QE_USAGE, "--dump-dot: an integer network has no Graphviz form; --dump writes it");
  if (!path || !*path) return QE_OK;
  FILE *file = fopen(path, "w");
  if (!file) return qe_file_fail(path, "write", errno);
  qe_network_dump(network, file);
  bool failed = ferror(file) != 0;
  if (fclose(file) != 0 || failed) return qe_fail(QE_IO, "%s: cannot write: is the disk full?", path);
  return QE_OK;
}

static qe_status evaluate_network(const qe_options *options, const qe_setup *setup, const qe_network *network) {
  subject of = {.name = "integer network", .integer = true};
  FILE *explain = qe_option_flag(options, "explain") ? stderr : NULL;
  if (qe_option_flag(options, "agreement"))
    return qe_fail(QE_USAGE, "--agreement compares with a float network, which an exported file does not have");
  QE_TRY(dump_network(options, network));
  QE_TRY(qe_evaluate_network(setup->device, network, setup->data, (int32_t)qe_option_int(options, "batch"), explain,
                             &of.score));
  QE_TRY(qe_cost_of_network(network, &of.cost));
  qe_status status = report(options, setup, &of);
  qe_cost_table_free(&of.cost);
  return status;
}

static qe_status eval_network(qe_options *options, const char *file, const qe_tensors *tensors) {
  qe_network *network;
  qe_setup setup;
  QE_TRY(qe_network_take(tensors, file, &network));
  qe_status status = take_image_size(options, network->layer[0].output.dim[QE_H]);
  if (status == QE_OK) status = qe_setup_open(options, 1, &setup);
  if (status == QE_OK) {
    status = evaluate_network(options, &setup, network);
    qe_setup_close(&setup);
  }
  qe_network_free(network);
  return status;
}

/* Read once: it may be a pipe. */
static qe_status eval_file(qe_options *options, const char *file) {
  qe_tensors *tensors;
  QE_TRY(qe_tensors_read(file, &tensors));
  qe_status status =
      qe_network_is_file(tensors) ? eval_network(options, file, tensors) : eval_model(options, file, tensors);
  qe_tensors_free(tensors);
  return status;
}

static qe_status refuse_dumps(const qe_options *options, const char *file) {
  static const char *const dumps[] = {"dump", "dump-dot"};
  for (size_t i = 0; i < sizeof dumps / sizeof *dumps; i++)
    if (qe_option_text(options, dumps[i])) QE_TRY(qe_refuse_overwrite(qe_option_text(options, dumps[i]), file));
  return QE_OK;
}

qe_status qe_cmd_eval(qe_options *options) {
  char *file;
  QE_TRY(qe_file_meant(qe_options_positional(options, 0), QE_RUN_MODEL, &file));
  qe_status status = refuse_dumps(options, file);
  if (status == QE_OK) status = eval_file(options, file);
  qe_free(file);
  return status;
}
