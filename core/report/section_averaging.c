/* Section of SQWA: the network as it is quantised directly, captured, averaged in several ways and fine-tuned. */
#include "core/report/report_parts.h"

#include <math.h>
#include <string.h>

static const char none[] = "<td></td>";

static void write_score(qe_page *page, double value) {
  if (isfinite(value))
    qe_page_add(page, "<td>%.2f</td>", value);
  else
    qe_page_add(page, "%s", none);
}

static void write_loss(qe_page *page, double value) {
  if (isfinite(value))
    qe_page_add(page, "<td>%.4f</td>", value);
  else
    qe_page_add(page, "%s", none);
}

/* Which columns any row fills. */
typedef struct columns {
  bool held_out, integer;
} columns;

static columns columns_of(const qe_history *h) {
  columns has = {0};
  for (size_t i = 0; i < h->rows; i++) {
    has.held_out |= isfinite(h->row[i].held_out_top1) != 0;
    has.integer |= isfinite(h->row[i].integer_top1) != 0;
  }
  return has;
}

static void write_row(qe_page *page, const qe_history_row *row, const columns *has) {
  char text[QE_NUMBER_TEXT];
  qe_page_words(page, "<tr><td>", row->name, "</td>");
  qe_page_words(page, "<td class=\"text\">", row->captures ? row->captures : "", "</td>");
  qe_page_words(page, "<td class=\"text\">", row->grid ? row->grid : "", "</td>");
  write_score(page, row->test_top1);
  write_loss(page, row->test_loss);
  if (has->integer) write_score(page, row->integer_top1);
  if (has->held_out) write_score(page, row->held_out_top1);
  if (has->held_out) write_loss(page, row->held_out_loss);
  if (row->bytes > 0)
    qe_page_add(page, "<td>%s</td>", qe_bytes_text(row->bytes, text));
  else
    qe_page_add(page, "%s", none);
  qe_page_add(page, "</tr>\n");
}

void qe_section_averaging(qe_page *page, const qe_report *report, const qe_report_run *run) {
  (void)report;
  const qe_history *h = &run->history;
  if (h->rows == 0) return;
  columns has = columns_of(h);
  qe_page_add(page,
              "<p>Test accuracy of the float network, of its direct quantisation, of each captured model, and of what "
              "is made of them: float shadow weights averaged and then quantised (SWA, and EMA where it was kept), "
              "codes averaged on the wider grid that their sum lies on, this average quantised again, and that "
              "fine-tuned.</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Averages of "
              "models\"><table><thead><tr><th>network</th><th class=\"text\">captures</th><th class=\"text\">grid</th>"
              "<th>top-1, %%</th><th>loss</th>%s%s<th>size</th></tr></thead><tbody>\n",
              has.integer ? "<th>as integers, %</th>" : "", has.held_out ? "<th>held out, %</th><th>loss</th>" : "");
  for (size_t i = 0; i < h->rows; i++) write_row(page, &h->row[i], &has);
  qe_page_add(page, "</tbody></table></div>\n<p class=\"note\">Size: weights at their bits, all other parameters at 32."
                    "</p>\n");
}
