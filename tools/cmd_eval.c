/* qevo-gpu eval: accuracy, loss and cost of a model. */
#include "core/train/trainer.h"
#include "tools/setup.h"

#include <string.h>

static bool is_weighted(const qe_graph *graph, qe_node node) {
  return qe_graph_cost(graph, node).macs > 0;
}

static void print_text(const qe_setup *setup, const qe_graph *graph, const qe_score *score) {
  printf("%-24s %6s %6s %12s %12s %14s %12s\n", "layer", "weight", "act", "parameters", "MACs", "bit-operations",
         "bytes");
  for (size_t i = 0; i < graph->nodes; i++) {
    if (!is_weighted(graph, (qe_node)i)) continue;
    const qe_node_info *node = &graph->node[i];
    qe_cost cost = qe_graph_cost(graph, (qe_node)i);
    printf("%-24s %6d %6d %12lld %12lld %14lld %12lld\n", node->name, node->quantizer.bits,
           qe_graph_bits(graph, node->input[0]), (long long)cost.params, (long long)cost.macs, (long long)cost.bit_ops,
           (long long)((cost.bits + 7) / 8));
  }
  qe_cost cost = qe_graph_cost(graph, -1);
  printf("%-24s %6s %6s %12lld %12lld %14lld %12lld\n", "all layers", "", "", (long long)cost.params,
         (long long)cost.macs, (long long)cost.bit_ops, (long long)((cost.bits + 7) / 8));
  printf("top-1 %.2f %%, loss %.4f, %lld test images (%s, backend %s)\n", score->top1, score->loss,
         (long long)score->images, setup->data->source, setup->device->backend->name);
}

static void write_layers(qe_json *json, const qe_graph *graph) {
  qe_json_open_array(json, "layers");
  for (size_t i = 0; i < graph->nodes; i++) {
    if (!is_weighted(graph, (qe_node)i)) continue;
    const qe_node_info *node = &graph->node[i];
    qe_cost cost = qe_graph_cost(graph, (qe_node)i);
    qe_json_open_object(json, NULL);
    qe_json_text(json, "layer", node->name);
    qe_json_int(json, "weight_bits", node->quantizer.bits);
    qe_json_int(json, "act_bits", qe_graph_bits(graph, node->input[0]));
    qe_json_int(json, "params", cost.params);
    qe_json_int(json, "macs", cost.macs);
    qe_json_int(json, "bit_operations", cost.bit_ops);
    qe_json_int(json, "bytes", (cost.bits + 7) / 8);
    qe_json_close(json);
  }
  qe_json_close(json);
}

static qe_status print_json(const qe_setup *setup, const qe_model *model, const qe_score *score, bool integer) {
  qe_cost cost = qe_graph_cost(model->graph, -1);
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_real(&json, "top1", score->top1);
  qe_json_real(&json, "loss", score->loss);
  qe_json_int(&json, "images", score->images);
  qe_json_text(&json, "backend", setup->device->backend->name);
  qe_json_bool(&json, "integer", integer);
  qe_json_text(&json, "model", model->spec.name);
  qe_json_text(&json, "data", setup->data->source);
  qe_json_int(&json, "params", cost.params);
  qe_json_int(&json, "macs", cost.macs);
  qe_json_int(&json, "bit_operations", cost.bit_ops);
  qe_json_int(&json, "bytes", (cost.bits + 7) / 8);
  write_layers(&json, model->graph);
  qe_json_close(&json);
  return qe_print_json(&json);
}

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

static qe_status evaluate(const qe_options *options, const qe_setup *setup, const qe_model *model) {
  const char *file = qe_options_positional(options, 0);
  qe_score score;
  QE_TRY(check_data(model, setup->data, file));
  QE_TRY(check_complete(model, file));
  QE_TRY(qe_dump_graph(options, model->graph));
  FILE *explain = qe_option_flag(options, "explain") ? stderr : NULL;
  int32_t batch = (int32_t)qe_option_int(options, "batch");
  bool integer = qe_option_flag(options, "integer");
  QE_TRY(integer ? qe_evaluate_integer(setup->device, model, setup->data, batch, explain, &score)
                 : qe_evaluate(setup->device, model, setup->data, batch, explain, &score));
  if (qe_option_flag(options, "json")) return print_json(setup, model, &score, integer);
  print_text(setup, model->graph, &score);
  return QE_OK;
}

qe_status qe_cmd_eval(qe_options *options) {
  qe_model *model;
  qe_setup setup;
  QE_TRY(qe_model_read(qe_options_positional(options, 0), &model, NULL));
  qe_status status = qe_setup_open(options, &setup);
  if (status == QE_OK) {
    status = evaluate(options, &setup, model);
    qe_setup_close(&setup);
  }
  qe_model_free(model);
  return status;
}
