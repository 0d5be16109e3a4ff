/* What a run tells in its folder: lines of metrics.jsonl, and the same numbers as TensorBoard events, with histograms
 * of weights. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/graph/codes.h"
#include "core/graph/layers.h"
#include "core/train/run_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- lines ---- */

qe_status qe_run_append(qe_run *run, qe_json *json) {
  char *line = NULL;
  qe_status status = qe_json_finish(json, &line, NULL);
  if (status == QE_OK && run->metrics) status = qe_file_append_line(run->metrics, line);
  qe_free(line);
  return status;
}

static void write_score(qe_json *json, const char *name, const qe_score *score) {
  if (score->images == 0) return;
  char key[64];
  snprintf(key, sizeof key, "%s_loss", name);
  qe_json_real(json, key, score->loss);
  snprintf(key, sizeof key, "%s_top1", name);
  qe_json_real(json, key, score->top1);
}

static void write_distill(qe_json *json, const qe_distill_score *score) {
  write_score(json, "twin_train", &score->twin);
  if (score->guidance >= 0) qe_json_real(json, "guidance", score->guidance);
  if (score->hints >= 0) qe_json_real(json, "hints", score->hints);
}

static qe_status write_epoch(qe_run *run, const qe_epoch_report *report) {
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "phase", report->phase);
  qe_json_int(&json, "epoch", report->epoch);
  qe_json_int(&json, "epochs", report->epochs);
  write_score(&json, "train", &report->train);
  write_score(&json, "test", &report->test);
  write_score(&json, "held_out", &report->held_out);
  write_distill(&json, &report->distill);
  write_score(&json, "twin_test", &report->twin_test);
  qe_json_real(&json, "rate", report->rate);
  qe_json_real(&json, "gradient_norm", report->gradient_norm);
  if (report->quantised >= 0) qe_json_real(&json, "quantised", 100 * report->quantised);
  qe_json_real(&json, "images_per_second", report->images_per_second);
  qe_json_real(&json, "seconds", report->seconds);
  qe_json_close(&json);
  return qe_run_append(run, &json);
}

static qe_status write_step(qe_run *run, const qe_train_progress *progress) {
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "phase", run->phase);
  qe_json_int(&json, "epoch", progress->epoch);
  qe_json_int(&json, "step", progress->step);
  qe_json_int(&json, "steps", progress->steps);
  write_score(&json, "running_train", &progress->train);
  qe_json_real(&json, "rate", progress->rate);
  qe_json_real(&json, "gradient_norm", progress->gradient_norm);
  qe_json_close(&json);
  return qe_run_append(run, &json);
}

/* ---- events ---- */

static void show_score(qe_run *run, const char *name, const qe_score *score) {
  if (score->images == 0) return;
  char tag[64];
  snprintf(tag, sizeof tag, "loss/%s", name);
  qe_board_scalar(run->board, tag, score->loss);
  snprintf(tag, sizeof tag, "top1/%s", name);
  qe_board_scalar(run->board, tag, score->top1);
}

/* Batches from the first phase's start to here. */
static int64_t step_of(const qe_run *run, int epochs, int64_t step) {
  return run->steps_before + epochs * qe_trainer_epoch_steps(run->trainer) + step;
}

qe_status qe_run_log_step(qe_run *run, const qe_train_progress *progress) {
  if (!run->metrics) return QE_OK;
  QE_TRY(write_step(run, progress));
  show_score(run, "running", &progress->train);
  qe_board_scalar(run->board, "rate", progress->rate);
  qe_board_scalar(run->board, "gradient_norm", progress->gradient_norm);
  return qe_board_flush(run->board, step_of(run, progress->epoch - 1, progress->step));
}

/* ---- histograms ---- */

enum { FLOAT_CELLS = 64 };

/* Counts of whole numbers `low` + i * spacing; cells are as wide as the spacing, empty ones at the ends left out. */
static qe_status show_codes(qe_run *run, const char *tag, int32_t low, int32_t spacing, const int64_t *cell,
                            size_t count) {
  while (count > 0 && cell[count - 1] == 0) count--;
  for (; count > 0 && cell[0] == 0; count--, cell++) low += spacing;
  double *edge = QE_NEW_ARRAY(double, count + 1);
  if (!edge) return QE_NO_MEMORY;
  qe_board_cells cells = {.low = low - 0.5 * spacing, .edge = edge, .cell = cell, .count = count};
  for (size_t i = 0; i < count; i++) {
    double code = low + (double)i * spacing;
    edge[i] = code + 0.5 * spacing;
    cells.sum += code * (double)cell[i];
    cells.square_sum += code * code * (double)cell[i];
  }
  qe_board_histogram(run->board, tag, &cells);
  qe_free(edge);
  return QE_OK;
}

static qe_status show_coded_layer(qe_run *run, const char *name, const qe_weight_codes *codes) {
  char tag[160];
  size_t count = (size_t)((codes->high - codes->low) / codes->spacing) + 1;
  int64_t *cell = QE_NEW_ARRAY(int64_t, count);
  if (!cell) return QE_NO_MEMORY;
  for (int64_t i = 0; i < codes->count; i++) cell[(qe_weight_code(codes, i) - codes->low) / codes->spacing]++;
  snprintf(tag, sizeof tag, "codes/%s", name);
  qe_status status = show_codes(run, tag, codes->low, codes->spacing, cell, count);
  qe_free(cell);
  return status;
}

/* Float weights: cells of equal width over their range. */
static void show_float_layer(qe_run *run, const char *name, const float *value, int64_t count) {
  char tag[160];
  int64_t cell[FLOAT_CELLS] = {0};
  double edge[FLOAT_CELLS], low = HUGE_VAL, high = -HUGE_VAL;
  for (int64_t i = 0; i < count; i++) {
    low = fmin(low, (double)value[i]);
    high = fmax(high, (double)value[i]);
  }
  if (!(low < high) || isinf(high - low)) return;
  qe_board_cells cells = {.low = low, .edge = edge, .cell = cell, .count = FLOAT_CELLS};
  for (int i = 0; i < FLOAT_CELLS; i++) edge[i] = low + (high - low) * (i + 1) / FLOAT_CELLS;
  for (int64_t i = 0; i < count; i++) {
    double v = (double)value[i];
    if (isnan(v)) continue;
    int at = (int)((v - low) / (high - low) * FLOAT_CELLS);
    cell[at < FLOAT_CELLS ? at : FLOAT_CELLS - 1]++;
    cells.sum += v;
    cells.square_sum += v * v;
  }
  snprintf(tag, sizeof tag, "weights/%s", name);
  qe_board_histogram(run->board, tag, &cells);
}

static qe_status show_weights(qe_run *run, const qe_model *model) {
  const qe_graph *graph = model->graph;
  bool plain = strcmp(run->phase, "float") == 0;
  for (size_t i = 0; i < graph->params; i++) {
    const qe_param *param = &graph->param[i];
    qe_weight_codes codes;
    if (param->group != QE_GROUP_WEIGHT) continue;
    const char *name = graph->node[param->node].name;
    if (!plain && qe_weight_codes_of(graph, model->values, param->node, &codes))
      QE_TRY(show_coded_layer(run, name, &codes));
    else
      show_float_layer(run, name, qe_model_values(model, (int)i), qe_count(&param->desc));
  }
  return QE_OK;
}

qe_status qe_run_log_epoch(qe_run *run, const qe_model *model, const qe_epoch_report *report) {
  if (!run->metrics) return QE_OK;
  int every = run->options.log_every;
  QE_TRY(write_epoch(run, report));
  show_score(run, "train", &report->train);
  show_score(run, "test", &report->test);
  show_score(run, "held_out", &report->held_out);
  show_score(run, "twin_train", &report->distill.twin);
  show_score(run, "twin_test", &report->twin_test);
  if (report->distill.guidance >= 0) qe_board_scalar(run->board, "loss/guidance", report->distill.guidance);
  if (report->distill.hints >= 0) qe_board_scalar(run->board, "loss/hints", report->distill.hints);
  if (every == 0 || run->newest.step % every != 0) { /* else the last batch's line has told them */
    qe_board_scalar(run->board, "rate", report->rate);
    qe_board_scalar(run->board, "gradient_norm", report->gradient_norm);
  }
  if (report->quantised >= 0) qe_board_scalar(run->board, "quantised", 100 * report->quantised);
  qe_board_scalar(run->board, "images_per_second", report->images_per_second);
  QE_TRY(show_weights(run, model));
  return qe_board_flush(run->board, step_of(run, report->epoch, 0));
}

/* ---- searches ---- */

qe_status qe_run_show_network(qe_run *run, const qe_network *network, const qe_score *held_out, int64_t spent) {
  if (!run->board) return QE_OK;
  if (held_out) show_score(run, "held_out", held_out);
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    int64_t cell[256] = {0};
    char tag[160];
    if (!layer->weight) continue;
    int32_t low = layer->grid.low, spacing = layer->grid.spacing;
    int64_t count = qe_count(&layer->weight_desc);
    for (int64_t k = 0; k < count; k++) cell[(layer->weight[k] - low) / spacing]++;
    snprintf(tag, sizeof tag, "codes/%s", layer->name);
    QE_TRY(show_codes(run, tag, low, spacing, cell, (size_t)((layer->grid.high - low) / spacing) + 1));
  }
  return qe_board_flush(run->board, spent);
}
