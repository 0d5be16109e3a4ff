/* Sections: weights on their grids, activations, size and work, by layer. */
#include "core/page/plot.h"
#include "core/report/report_parts.h"

#include <math.h>
#include <stdio.h>

/* ---- weights ---- */

/* Ends of the axis: values where the step is known and one for the layer, else codes. */
static void end_text(const qe_layer_weights *layer, double code, char *text, size_t room) {
  char number[QE_NUMBER_TEXT];
  bool one_step = layer->codes && layer->step[0] > 0 && !(layer->step[1] > layer->step[0]);
  double value = one_step ? code * layer->step[0] : code;
  const double places = 1000;
  if (one_step || !layer->codes) value = fabs(value) < 1 ? rint(value * places) / places : value;
  snprintf(text, room, "%s", qe_number_text(value, number));
}

static void note_text(const qe_layer_weights *layer, char *text, size_t room) {
  int used = 0;
  if (!layer->codes) {
    snprintf(text, room, "float");
    return;
  }
  used = snprintf(text, room, "%d %s", layer->bits, layer->bits == 1 ? "bit" : "bits");
  if (layer->before)
    snprintf(text + used, room - (size_t)used, ", %.2f %% changed",
             100 * (double)layer->changed / (double)layer->weights);
  else if (layer->step[1] > layer->step[0])
    snprintf(text + used, room - (size_t)used, ", codes; steps %.2g to %.2g", layer->step[0], layer->step[1]);
  else if (layer->step[0] > 0)
    snprintf(text + used, room - (size_t)used, ", step %.3g", layer->step[0]);
}

static void write_layer(qe_page *page, const qe_layer_weights *layer) {
  char note[96], low[QE_NUMBER_TEXT], high[QE_NUMBER_TEXT];
  note_text(layer, note, sizeof note);
  end_text(layer, layer->low, low, sizeof low);
  end_text(layer, layer->high, high, sizeof high);
  double range = layer->high - layer->low;
  double first = range > 0 ? -layer->low / range : 0.5;
  /* The bins' centres run from 0.5 to bins - 0.5. */
  double zero = (0.5 + first * (layer->bins - 1)) / layer->bins;
  qe_page_histogram(page, &(qe_histogram){.title = layer->name,
                                          .note = note,
                                          .low = low,
                                          .high = high,
                                          .count = layer->count,
                                          .before = layer->before,
                                          .bins = layer->bins,
                                          .zero = layer->low < 0 && layer->high > 0 ? zero : -1});
}

static double share_of(const qe_layer_weights *layer, int64_t count) {
  return layer->weights > 0 ? 100 * (double)count / (double)layer->weights : 0;
}

static void write_weights_table(qe_page *page, const qe_report_run *run) {
  char text[QE_NUMBER_TEXT];
  qe_page_add(
      page,
      "<details><summary>Data as a table</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" "
      "aria-label=\"Weights by layer\"><table><thead><tr><th>layer</th><th>weights</th><th>bits</th><th>codes</th>"
      "<th>step, least</th><th>greatest</th><th>zeros</th><th>at the ends</th></tr></thead><tbody>\n");
  for (size_t i = 0; i < run->layers; i++) {
    const qe_layer_weights *layer = &run->layer[i];
    if (!layer->codes) continue;
    int spacing = layer->bins > 1 ? (int)((layer->high - layer->low) / (layer->bins - 1)) : 1;
    int zero = (int)(-layer->low) / spacing;
    bool has_zero = layer->low <= 0 && layer->high >= 0 && (int)(-layer->low) % spacing == 0;
    qe_page_words(page, "<tr><td>", layer->name, "</td>");
    qe_page_add(page, "<td>%s</td><td>%d</td><td>%.0f\xE2\x80\xA6%.0f</td>", qe_whole_text(layer->weights, text),
                layer->bits, layer->low, layer->high);
    for (int k = 0; k < 2; k++)
      qe_page_add(page, "<td>%s</td>", layer->step[k] > 0 ? qe_number_text(layer->step[k], text) : "");
    qe_page_add(page, "<td>%.1f %%</td><td>%.1f %%</td></tr>\n", has_zero ? share_of(layer, layer->count[zero]) : 0,
                share_of(layer, layer->count[0] + layer->count[layer->bins - 1]));
  }
  qe_page_add(page, "</tbody></table></div></details>\n");
}

static bool any_codes(const qe_report_run *run) {
  for (size_t i = 0; i < run->layers; i++)
    if (run->layer[i].codes) return true;
  return false;
}

void qe_section_weights(qe_page *page, const qe_report *report, const qe_report_run *run) {
  (void)report;
  if (run->layers == 0) return;
  if (run->start)
    qe_page_add(page, "<p>How often each code occurs: colour now, grey behind it at the start of the search.</p>\n");
  else if (any_codes(run))
    qe_page_add(
        page,
        "<p>How often each code occurs, at its place on the layer's grid. Ends are code times step; of layers with a "
        "step for each channel they are codes.</p>\n");
  else
    qe_page_add(page, "<p>Values of the float weights; a layer's axis reaches to its largest magnitude.</p>\n");
  qe_page_add(page, "<div class=\"small\">\n");
  for (size_t i = 0; i < run->layers; i++) write_layer(page, &run->layer[i]);
  qe_page_add(page, "</div>\n");
  if (any_codes(run)) write_weights_table(page, run);
}

/* ---- activations ---- */

static void write_share(qe_page *page, double share, const char *kind) {
  qe_page_add(page, "<td class=\"w\">");
  qe_page_bar(page, share, kind);
  qe_page_add(page, "</td><td>%.1f %%</td>", 100 * share);
}

void qe_section_activations(qe_page *page, const qe_report *report, const qe_report_run *run) {
  (void)report;
  char text[QE_NUMBER_TEXT];
  const qe_findings *found = &run->found;
  if (found->activations == 0) return;
  qe_page_add(
      page,
      "<p>Codes of every activation quantiser over up to %d test images: how many are zero, and how many stand at the "
      "largest code, the clip.</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
      "aria-label=\"Activations\"><table>"
      "<thead><tr><th>quantiser</th>"
      "<th class=\"text\" colspan=\"2\">zero</th><th class=\"text\" colspan=\"2\">at the "
      "clip</th><th>bits</th><th>step</th><th>clip</th>"
      "<th>mean code</th><th>largest</th></tr></thead><tbody>\n",
      QE_ACTIVATION_IMAGES);
  for (size_t i = 0; i < found->activations; i++) {
    const qe_activation *a = &found->activation[i];
    qe_page_words(page, "<tr><td>", a->name, "</td>");
    write_share(page, a->zero, "");
    write_share(page, a->saturated, "b1");
    qe_page_add(page, "<td>%d</td><td>%s</td>", a->bits, a->step > 0 ? qe_number_text(a->step, text) : "");
    qe_page_add(page, "<td>%s</td>", a->step > 0 ? qe_number_text(a->step * a->high, text) : "");
    qe_page_add(page, "<td>%.2f</td><td>%.0f of %.0f</td></tr>\n", a->mean, a->reached, a->high);
  }
  qe_page_add(page, "</tbody></table></div>\n");
}

/* ---- size and work ---- */

static void write_cost_row(qe_page *page, const qe_cost_row *row, const qe_cost_row *sum, bool last) {
  char text[QE_NUMBER_TEXT];
  qe_page_words(page, last ? "<tr class=\"sum\"><td>" : "<tr><td>", row->layer, "</td><td class=\"w\">");
  if (!last) qe_page_bar(page, sum->bytes > 0 ? (double)row->bytes / (double)sum->bytes : 0, "");
  if (!last) qe_page_bar(page, sum->bit_ops > 0 ? (double)row->bit_ops / (double)sum->bit_ops : 0, "second");
  qe_page_add(page, "</td><td>%s</td>", qe_bytes_text((double)row->bytes, text));
  qe_page_add(page, "<td>%s</td>", qe_count_text((double)row->bit_ops, text));
  if (row->weight_bits > 0 && row->act_bits > 0)
    qe_page_add(page, "<td>%d / %d</td>", row->weight_bits, row->act_bits);
  else
    qe_page_add(page, "<td></td>");
  qe_page_add(page, "<td>%s</td>", qe_count_text((double)row->macs, text));
  qe_page_add(page, "<td>%s</td></tr>\n", qe_whole_text(row->params, text));
}

void qe_section_cost(qe_page *page, const qe_report *report, const qe_report_run *run) {
  (void)report;
  const qe_cost_table *cost = &run->cost;
  if (cost->rows == 0) return;
  qe_page_add(
      page,
      "<p>Bits are those of weights and of the activations they meet. Bars: the layer's share of all bytes (upper, "
      "blue) and of all bit-operations (lower, orange), that is multiply-adds times bits times bits, of one "
      "image.</p>\n"
      "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Size and work by layer\"><table><thead><tr>"
      "<th>layer</th><th class=\"text\">share</th><th>size</th><th>bit-operations</th><th>bits</th>"
      "<th>multiply-adds</th><th>parameters</th></tr></thead><tbody>\n");
  for (size_t i = 0; i < cost->rows; i++) write_cost_row(page, &cost->row[i], &cost->sum, false);
  write_cost_row(page, &cost->sum, &cost->sum, true);
  qe_page_add(page, "</tbody></table></div>\n");
}
