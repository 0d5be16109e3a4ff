/* SQWA's averaging step: captured models to the average on its wide grid, the re-quantised one, and their baselines. */
#include "core/base/alloc.h"
#include "core/graph/codes.h"
#include "core/graph/integer.h"
#include "core/graph/layers.h"
#include "core/methods/sqwa_parts.h"
#include "core/train/renorm.h"

#include <stdio.h>
#include <string.h>

qe_status qe_sqwa_average(const qe_sqwa *s, const qe_capture_list *list, qe_average_of of, qe_average **out) {
  qe_average *average;
  QE_TRY(qe_average_new(of, &average));
  qe_status status = QE_OK;
  for (int32_t i = 0; status == QE_OK && i < list->count; i++) {
    qe_model *model;
    char name[40];
    snprintf(name, sizeof name, "capture %d", list->number[i]);
    status = qe_captures_get(&s->captures, list->number[i], &model);
    if (status != QE_OK) break;
    status = qe_average_add(average, model, name);
    qe_model_free(model);
  }
  if (status == QE_OK)
    *out = average;
  else
    qe_average_free(average);
  return status;
}

qe_status qe_sqwa_finish(const qe_sqwa *s, qe_model *model) {
  const qe_setting *setting = s->setting;
  qe_renorm_options norm = {.seed = setting->options.seed,
                            .held_out = setting->options.held_out,
                            .batch = setting->options.batch,
                            .images = setting->sqwa.norm_images};
  QE_TRY(qe_fit_steps(setting->device, model, setting->data, setting->options.seed));
  return norm.images > 0 ? qe_renorm(setting->device, model, setting->data, &norm) : QE_OK;
}

/* Weight steps are to be fitted anew. */
static void forget_steps(qe_model *model) {
  qe_weight_codes codes;
  for (size_t i = 0; i < model->graph->nodes; i++)
    if (qe_weight_codes_of(model->graph, model->values, (qe_node)i, &codes))
      model->graph->param[model->graph->node[i].param[QE_CONV_STEP]].initialised = false;
}

qe_status qe_sqwa_requantise(const qe_sqwa *s, const qe_average *average, qe_model **out) {
  qe_model *model;
  QE_TRY(qe_average_mean(average, &model));
  if (!s->setting->sqwa.keep_steps) forget_steps(model);
  qe_status status = qe_sqwa_finish(s, model);
  if (status == QE_OK)
    *out = model;
  else
    qe_model_free(model);
  return status;
}

/* ---- rows ---- */

/* "4 bits", "3 to 4 bits", with the layers that are rounded. New text. */
static char *say_grid(const qe_wide_layer *layer, size_t count) {
  int32_t least = 8, most = 0;
  int rounded = 0;
  for (size_t i = 0; i < count; i++) {
    rounded += !layer[i].exact;
    if (!layer[i].exact) continue;
    if (layer[i].bits < least) least = layer[i].bits;
    if (layer[i].bits > most) most = layer[i].bits;
  }
  if (most == 0) return qe_format("rounded to 8 bits");
  char range[32];
  snprintf(range, sizeof range, least < most ? "%d to %d bits" : "%d bits", least, most);
  if (!rounded) return qe_strdup(range);
  return qe_format("%s, %d layer%s rounded to 8", range, rounded, rounded == 1 ? "" : "s");
}

/* The integer network; where there is none (float activations) the model, where a file can say what it is. */
static qe_status write_wide(const qe_sqwa *s, const qe_model *wide, const char *captures) {
  static const char file[] = "average-wide.safetensors";
  const char *const facts[] = {"phase", "average on its wide grid", "captures", captures, NULL};
  qe_network *network;
  qe_status status = qe_network_from_graph(wide->graph, wide->values, &network);
  if (status == QE_OK) {
    status = qe_run_save_network(s->setting->run, network, file);
    qe_network_free(network);
    return status;
  }
  if (status != QE_REFUSED) return status;
  qe_message_clear();
  if (!wide->spec.net) return qe_run_save_model(s->setting->run, wide, file, facts);
  qe_run_note(s->setting->run, "%s is not written: the network has no integer form", file);
  return QE_OK;
}

static qe_status tell_wide(const qe_sqwa *s, const qe_average *average, const char *captures) {
  qe_wide_layer *layer = NULL;
  qe_model *wide = NULL;
  size_t count = 0;
  char *grid = NULL;
  QE_TRY(qe_average_wide(average, &wide, &layer, &count));
  qe_sqwa_row row = {.name = "wide average", .captures = captures, .integer = true};
  qe_status status = QE_OK;
  if (count > 0) row.grid = grid = say_grid(layer, count);
  if (count > 0 && !grid) status = QE_NO_MEMORY;
  if (status == QE_OK) status = qe_sqwa_finish(s, wide);
  if (status == QE_OK) status = qe_sqwa_tell(s, &row, wide, NULL, NULL);
  if (status == QE_OK) status = write_wide(s, wide, captures);
  qe_free(grid);
  qe_free(layer);
  qe_model_free(wide);
  return status;
}

/* Float shadow weights averaged, then quantised. */
static qe_status tell_shadows(const qe_sqwa *s, const qe_capture_list *list, const char *captures) {
  qe_average *average = NULL;
  qe_model *model = NULL;
  qe_sqwa_row row = {.name = "SWA of float shadows", .captures = captures, .integer = true};
  qe_status status = qe_sqwa_average(s, list, QE_AVERAGE_VALUES, &average);
  if (status == QE_OK) status = qe_sqwa_requantise(s, average, &model);
  qe_average_free(average);
  if (status == QE_OK) status = qe_sqwa_tell(s, &row, model, NULL, NULL);
  qe_model_free(model);
  return status;
}

static qe_status tell_ema(const qe_sqwa *s) {
  qe_model *model = NULL;
  qe_sqwa_row row = {.name = "EMA of float shadows", .integer = true};
  if (!(s->setting->sqwa.ema > 0)) return QE_OK;
  QE_TRY(qe_captures_get(&s->captures, QE_CAPTURED_EMA, &model));
  if (!s->setting->sqwa.keep_steps) forget_steps(model);
  qe_status status = qe_sqwa_finish(s, model);
  if (status == QE_OK) status = qe_sqwa_tell(s, &row, model, NULL, NULL);
  qe_model_free(model);
  return status;
}

static qe_status tell_requantised(const qe_sqwa *s, const qe_average *average, const char *captures, qe_model **model) {
  qe_sqwa_row row = {.name = "re-quantised", .captures = captures, .integer = true};
  const char *const facts[] = {"phase", "average", "captures", captures, NULL};
  QE_TRY(qe_sqwa_requantise(s, average, model));
  QE_TRY(qe_sqwa_tell(s, &row, *model, &s->result->final, &s->result->integer));
  return qe_run_save_model(s->setting->run, *model, "average.safetensors", facts);
}

static qe_status average_list(const qe_sqwa *s, const qe_capture_list *list, qe_model **model) {
  qe_average *average = NULL;
  char *captures = qe_capture_list_text(list);
  qe_status status = captures ? tell_shadows(s, list, captures) : QE_NO_MEMORY;
  if (status == QE_OK) status = tell_ema(s);
  if (status == QE_OK) status = qe_sqwa_average(s, list, QE_AVERAGE_CODES, &average);
  if (status == QE_OK) status = tell_wide(s, average, captures);
  if (status == QE_OK) status = tell_requantised(s, average, captures, model);
  qe_average_free(average);
  qe_free(captures);
  if (status == QE_OK) return QE_OK;
  qe_model_free(*model);
  *model = NULL;
  return status;
}

qe_status qe_sqwa_average_all(const qe_sqwa *s, qe_model **model) {
  qe_capture_list list;
  *model = NULL;
  QE_TRY(qe_sqwa_choose(s, &list));
  qe_status status = average_list(s, &list, model);
  qe_capture_list_free(&list);
  return status;
}
