/* The rows that a SQWA run tells: the same network as it is quantised directly, captured, averaged and fine-tuned. */
#include "core/base/alloc.h"
#include "core/methods/sqwa_parts.h"

#include <stdio.h>

static void write_score(qe_json *json, const char *loss, const char *top1, const qe_score *score) {
  if (score->images == 0) return;
  qe_json_real(json, loss, score->loss);
  qe_json_real(json, top1, score->top1);
}

static int64_t bits_of(const qe_sqwa_row *row, const qe_model *model) {
  qe_cost cost = qe_graph_cost(model->graph, -1);
  return row->plain ? cost.params * QE_FLOAT_BITS : cost.bits;
}

static qe_status append(const qe_sqwa *s, const qe_sqwa_row *row, const qe_model *model, const qe_score score[3]) {
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "row", row->name);
  if (row->captures) qe_json_text(&json, "captures", row->captures);
  if (row->grid) qe_json_text(&json, "grid", row->grid);
  write_score(&json, "test_loss", "test_top1", &score[0]);
  write_score(&json, "held_out_loss", "held_out_top1", &score[1]);
  write_score(&json, "integer_loss", "integer_top1", &score[2]);
  qe_json_int(&json, "bytes", (bits_of(row, model) + 7) / 8);
  qe_json_close(&json);
  return qe_run_append(s->setting->run, &json);
}

static void note(const qe_sqwa *s, const qe_sqwa_row *row, const qe_model *model, const qe_score score[3]) {
  char integer[64] = "", held_out[64] = "";
  if (score[2].images) snprintf(integer, sizeof integer, ", as integers %.2f %%", score[2].top1);
  if (score[1].images) snprintf(held_out, sizeof held_out, ", held out %.2f %%", score[1].top1);
  qe_run_note(s->setting->run, "%s%s%s%s%s: %.2f %% top-1%s%s, %.0f KiB", row->name, row->captures ? " of " : "",
              row->captures ? row->captures : "", row->grid ? ", " : "", row->grid ? row->grid : "", score[0].top1,
              integer, held_out, (double)bits_of(row, model) / 8192);
}

static qe_status score_integer(const qe_sqwa *s, const qe_model *model, qe_score *score) {
  qe_result result = {0};
  QE_TRY(qe_method_score_integer(s->setting, model, &result));
  *score = result.integer;
  return QE_OK;
}

qe_status qe_sqwa_tell(const qe_sqwa *s, const qe_sqwa_row *row, const qe_model *model, qe_score *test,
                       qe_score *integer) {
  const qe_setting *setting = s->setting;
  int32_t batch = setting->options.eval_batch;
  qe_score score[3] = {{0}};
  if (row->plain)
    QE_TRY(qe_evaluate_plain(setting->device, model, setting->data, batch, &score[0]));
  else
    QE_TRY(qe_evaluate(setting->device, model, setting->data, batch, NULL, &score[0]));
  if (setting->options.held_out > 0 && !row->plain)
    QE_TRY(qe_evaluate_held_out(setting->device, model, setting->data, &setting->options, &score[1]));
  if (row->integer) QE_TRY(score_integer(s, model, &score[2]));
  note(s, row, model, score);
  if (test) *test = score[0];
  if (integer) *integer = score[2];
  return append(s, row, model, score);
}
