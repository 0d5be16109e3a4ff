/* The head of a report: what was trained, how, and what came of it. */
#include "core/report/report_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *model_name(const qe_report_run *run) {
  const char *name = run->model ? run->model->spec.name : qe_config_get(&run->config, "model");
  return name ? name : run->network ? "integer network" : "";
}

static int bits_of(const qe_report_run *run, bool weights) {
  if (run->model) return weights ? run->model->spec.bits.weights : run->model->spec.bits.activations;
  const char *text = qe_config_get(&run->config, weights ? "weight-bits" : "act-bits");
  return text ? atoi(text) : 0;
}

static void write_bits(qe_page *page, const qe_report_run *run) {
  int weights = bits_of(run, true), codes = bits_of(run, false);
  if (weights == QE_FLOAT_BITS && codes == QE_FLOAT_BITS)
    qe_page_add(page, " in float");
  else if (weights > 0 && codes > 0)
    qe_page_add(page, " with %d-bit weights and %d-bit activations", weights, codes);
}

/* ---- in words ---- */

static void write_how(qe_page *page, const qe_report_run *run) {
  const qe_history *h = &run->history;
  const char *method = qe_report_method(run), *stages = qe_config_get(&run->config, "stages");
  char text[QE_NUMBER_TEXT];
  if (strcmp(method, "qat") == 0)
    qe_page_add(page, ", trained by gradients");
  else if (strcmp(method, "sqwa") == 0)
    qe_page_add(page, ", trained by gradients, with low-bit models captured and averaged (SQWA)");
  else if (h->searches)
    qe_page_words(page, ", searched without gradients (", method, ")");
  else if (*method)
    qe_page_words(page, ", method ", method, "");
  if (h->searches && stages && *stages) qe_page_words(page, ", stages ", stages, "");
  if (h->searches)
    qe_page_add(page, ", %s candidate-images", qe_count_text(h->end, text));
  else if (h->end > 0)
    qe_page_add(page, ", %.0f epoch%s", floor(h->end), h->end < 2 ? "" : "s");
  if (h->seconds > 0) qe_page_add(page, " in %s", qe_seconds_text(h->seconds, text));
}

static void write_sentence(qe_page *page, const qe_report_run *run) {
  const char *data = run->found.data ? run->found.data : qe_config_get(&run->config, "data"),
             *seed = qe_config_get(&run->config, "seed");
  qe_page_words(page, "<p class=\"lead\"><b>", *model_name(run) ? model_name(run) : "A run", "</b>");
  write_bits(page, run);
  write_how(page, run);
  if (data) qe_page_words(page, ". Data: ", data, "");
  if (run->found.subset) qe_page_words(page, ", ", run->found.source, "");
  if (!seed) seed = qe_report_meta(run, "seed");
  if (seed) qe_page_words(page, ". Seed ", seed, "");
  qe_page_add(page, ".</p>\n");
}

static void write_state(qe_page *page, const qe_report_run *run, bool live) {
  qe_run_state state = run->stand.state;
  bool running = state == QE_RUN_RUNNING || (state == QE_RUN_UNKNOWN && live);
  if (!run->folder || qe_report_run_finished(run)) return;
  qe_page_add(page, "<p><span class=\"live%s\">%s</span></p>\n", running ? "" : " stopped",
              running ? "running" : qe_report_run_stand(run));
  if (state == QE_RUN_FAILED) qe_page_words(page, "<p class=\"note bad\">", run->stand.message, "</p>\n");
}

void qe_report_remarks(qe_page *page, const qe_report_run *run, bool named) {
  if (named && (run->problem || run->why || run->history.broken > 0))
    qe_page_words(page, "<p class=\"note\"><b>", run->name, "</b></p>");
  if (run->problem) qe_page_words(page, "<p class=\"note bad\">Not read: ", run->problem, "</p>\n");
  if (run->history.broken > 0)
    qe_page_add(page, "<p class=\"note bad\">%lld of the %lld lines of metrics.jsonl are damaged and left out.</p>\n",
                (long long)run->history.broken, (long long)run->history.lines);
  if (run->folder && run->history.lines == 0) qe_page_add(page, "<p class=\"note\">The run has no metrics yet.</p>\n");
  if (run->why) qe_page_words(page, "<p class=\"note\">Not evaluated: ", run->why, "</p>\n");
}

/* ---- tiles ---- */

static void write_tile(qe_page *page, const char *name, const char *value, const char *note) {
  qe_page_words(page, "<li><span>", name, "</span>");
  qe_page_words(page, "<b>", value, "</b>");
  if (note) qe_page_words(page, "<span>", note, "</span>");
  qe_page_add(page, "</li>\n");
}

static void write_percent(qe_page *page, const char *name, double percent, const char *note) {
  char text[QE_NUMBER_TEXT];
  snprintf(text, sizeof text, "%.2f\xC2\xA0%%", percent);
  write_tile(page, name, text, note);
}

/* From the metrics, while there is no evaluation. */
static void write_last(qe_page *page, const qe_history *h) {
  double test = qe_history_last(h, "test_top1", HUGE_VAL), held = qe_history_last(h, "held_out_top1", HUGE_VAL);
  if (isfinite(test)) write_percent(page, "test top-1", test, "last epoch");
  if (isfinite(held)) write_percent(page, "held-out top-1", held, h->searches ? "last stage" : "last epoch");
}

static void write_answers(qe_page *page, const qe_report_run *run) {
  const qe_findings *found = &run->found;
  char note[96], count[QE_NUMBER_TEXT];
  if (found->integer.images > 0) {
    snprintf(note, sizeof note, "top-1 on %s test images", qe_whole_text(found->integer.images, count));
    write_percent(page, "integer network", found->integer.top1, note);
  }
  if (found->real.images > 0 && found->integer.images > 0) {
    snprintf(note, sizeof note, "top-1; same answers: %.2f %%", found->agreement);
    write_percent(page, "its float twin", found->real.top1, note);
  } else if (found->real.images > 0) {
    write_percent(page, "top-1", found->real.top1, "float arithmetic");
  }
  if (found->integer.images == 0 && found->real.images == 0) write_last(page, &run->history);
}

void qe_report_tiles(qe_page *page, const qe_report_run *run) {
  char value[QE_NUMBER_TEXT], note[64];
  const qe_cost_row *sum = &run->cost.sum;
  qe_page_add(page, "<ul class=\"tiles\">\n");
  write_answers(page, run);
  if (sum->bytes > 0) {
    double whole = (double)sum->params * 4;
    snprintf(note, sizeof note, "%.1f\xC3\x97 smaller than in float", whole / (double)sum->bytes);
    write_tile(page, "size", qe_bytes_text((double)sum->bytes, value),
               whole > 1.05 * (double)sum->bytes ? note : "32-bit");
    write_tile(page, "parameters", qe_count_text((double)sum->params, value), NULL);
    snprintf(note, sizeof note, "%s multiply-adds", qe_count_text((double)sum->macs, value));
    write_tile(page, "bit-operations", qe_count_text((double)sum->bit_ops, value), note);
  }
  qe_page_add(page, "</ul>\n");
}

/* ---- tables ---- */

static void write_score(qe_page *page, const char *name, const qe_score *score, const char *size) {
  if (score->images == 0) return;
  qe_page_words(page, "<tr><td>", name, "</td>");
  qe_page_add(page, "<td>%.2f %%</td><td>%.4f</td><td>%s</td></tr>\n", score->top1, score->loss, size);
}

/* The last score that the metrics have of the phase called "float". */
static qe_score float_phase(const qe_report_run *run) {
  const qe_history *h = &run->history;
  for (size_t i = 0; i < h->edges; i++) {
    if (h->searches || strcmp(h->edge[i].name, "float") != 0) continue;
    double top1 = qe_history_last(h, "test_top1", h->edge[i].x), loss = qe_history_last(h, "test_loss", h->edge[i].x);
    if (isfinite(top1)) return (qe_score){loss, top1, 1};
  }
  return (qe_score){0};
}

static void write_networks(qe_page *page, const qe_report_run *run) {
  const qe_findings *found = &run->found;
  qe_score before = float_phase(run);
  char size[QE_NUMBER_TEXT], whole[QE_NUMBER_TEXT];
  int rows = (found->integer.images > 0) + (found->real.images > 0) + (found->start.images > 0) +
             (found->teacher.images > 0) + (before.images > 0);
  if (rows < 2) return;
  qe_bytes_text((double)run->cost.sum.bytes, size);
  qe_bytes_text((double)run->cost.sum.params * 4, whole);
  qe_page_add(page, "<div class=\"scroll\"><table class=\"names\"><thead><tr><th>on the test "
                    "images</th><th>top-1</th><th>loss, nats</th><th>size"
                    "</th></tr></thead><tbody>\n");
  write_score(page, "integer network", &found->integer, size);
  write_score(page, found->integer.images > 0 ? "its float twin with fake quantisers" : "network", &found->real,
              found->integer.images > 0 ? "" : size);
  write_score(page, "before quantisation, in float", &before, whole);
  write_score(page, "at the start of the search", &found->start, size);
  write_score(page, "teacher", &found->teacher, "");
  qe_page_add(page, "</tbody></table></div>\n");
}

static void write_number_cell(qe_page *page, bool is, double value, int places, const char *unit) {
  if (is)
    qe_page_add(page, "<td>%.*f%s</td>", places, value, unit);
  else
    qe_page_add(page, "<td></td>");
}

static void write_comparison_row(qe_page *page, const qe_report_run *run, bool twins) {
  const qe_history *h = &run->history;
  qe_score score = qe_report_score(run);
  double test = score.images > 0 ? score.top1 : qe_history_last(h, "test_top1", HUGE_VAL),
         loss = score.images > 0 ? score.loss : qe_history_last(h, "test_loss", HUGE_VAL);
  char text[QE_NUMBER_TEXT];
  int weights = bits_of(run, true), codes = bits_of(run, false);
  qe_page_words(page, "<tr><th scope=\"row\">", run->name, "</th>");
  write_number_cell(page, isfinite(test), test, 2, " %");
  write_number_cell(page, isfinite(loss), loss, 4, "");
  if (twins) write_number_cell(page, run->found.real.images > 0, run->found.real.top1, 2, " %");
  qe_page_add(page, "<td>%s</td>", run->cost.sum.bytes > 0 ? qe_bytes_text((double)run->cost.sum.bytes, text) : "");
  qe_page_add(page, "<td>%s</td>", run->cost.sum.bit_ops > 0 ? qe_count_text((double)run->cost.sum.bit_ops, text) : "");
  qe_page_words(page, "<td class=\"text\">", model_name(run), "</td>");
  if (weights > 0 && codes > 0)
    qe_page_add(page, "<td>%d / %d</td>", weights, codes);
  else
    qe_page_add(page, "<td></td>");
  qe_page_words(page, "<td class=\"text\">", qe_report_method(run), "</td>");
  if (h->end > 0)
    qe_page_add(page, "<td>%s %s</td>", qe_count_text(h->end, text), h->searches ? "images" : "epochs");
  else
    qe_page_add(page, "<td></td>");
  qe_page_add(page, "<td>%s</td><td class=\"text\">%s</td></tr>\n",
              h->seconds > 0 ? qe_seconds_text(h->seconds, text) : "",
              qe_report_run_finished(run) ? "" : qe_report_run_stand(run));
}

static bool any_twin(const qe_report *report) {
  for (size_t i = 0; i < report->runs; i++)
    if (report->run[i]->found.real.images > 0) return true;
  return false;
}

static void write_comparison(qe_page *page, const qe_report *report) {
  bool twins = any_twin(report);
  qe_page_add(page,
              "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Runs\"><table><thead><tr><th>run</th>"
              "<th>top-1</th><th>loss</th>%s<th>size</th><th>bit-ops</th><th class=\"text\">model</th><th>bits</th>"
              "<th class=\"text\">method</th><th>length</th><th>time</th><th></th></tr></thead><tbody>\n",
              twins ? "<th>float twin</th>" : "");
  for (size_t i = 0; i < report->runs; i++) write_comparison_row(page, report->run[i], twins);
  qe_page_add(page, "</tbody></table></div>\n<p class=\"note\">Test images%s. Bits: of weights / of activations.</p>\n",
              twins ? "; where there is a float twin, the first numbers are the integer network's" : ", last epoch");
}

void qe_report_summary(qe_page *page, const qe_report *report, bool live) {
  if (report->pipeline) {
    qe_report_pipeline_summary(page, report);
    return;
  }
  if (report->runs == 1) {
    const qe_report_run *run = report->run[0];
    qe_page_words(page, "<h1>", run->name, "</h1>\n");
    write_state(page, run, live);
    write_sentence(page, run);
    qe_report_tiles(page, run);
    write_networks(page, run);
    qe_report_remarks(page, run, false);
    return;
  }
  qe_page_add(page, "<h1>%zu runs</h1>\n", report->runs);
  write_comparison(page, report);
  for (size_t i = 0; i < report->runs; i++) qe_report_remarks(page, report->run[i], true);
}
