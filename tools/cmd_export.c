/* qevo-gpu export: the integer network of a trained model as a file. */
#include "core/base/alloc.h"
#include "core/dispatch/network_file.h"
#include "core/graph/cost_table.h"
#include "core/graph/integer.h"
#include "core/models/model.h"
#include "tools/setup.h"

static qe_status report(const qe_options *options, const qe_network *network, const char *path) {
  qe_cost_table cost;
  QE_TRY(qe_cost_of_network(network, &cost));
  qe_status status = QE_OK;
  if (qe_option_flag(options, "json")) {
    qe_json json = {0};
    qe_json_open_object(&json, NULL);
    qe_json_text(&json, "out", path);
    qe_cost_table_json(&cost, &json);
    qe_json_close(&json);
    status = qe_print_json(&json);
  } else {
    qe_cost_table_print(&cost, stdout);
    printf("written to %s\n", path);
  }
  qe_cost_table_free(&cost);
  return status;
}

static qe_status export(const qe_options *options, const char *file, const char *path) {
  qe_model *model;
  qe_network *network = NULL;
  QE_TRY(qe_model_read(file, &model, NULL));
  qe_status status = qe_network_from_graph(model->graph, model->values, &network);
  if (status != QE_OK) (void)qe_fail_within(status, "%s", file);
  if (status == QE_OK) status = qe_network_write(network, path);
  if (status == QE_OK) status = report(options, network, path);
  qe_network_free(network);
  qe_model_free(model);
  return status;
}

qe_status qe_cmd_export(qe_options *options) {
  const char *path = qe_option_text(options, "out");
  char *file;
  if (!path || !*path) return qe_fail(QE_USAGE, "needs --out FILE: where to write the integer network");
  QE_TRY(qe_file_meant(qe_options_positional(options, 0), QE_RUN_MODEL, &file));
  qe_status status = qe_refuse_overwrite(path, file);
  if (status == QE_OK) status = export(options, file, path);
  qe_free(file);
  return status;
}
