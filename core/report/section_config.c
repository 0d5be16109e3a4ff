/* Section: the run's options, those that were chosen first, and the whole file folded away. */
#include "core/report/report_parts.h"

static void write_rows(qe_page *page, const qe_config *config, bool chosen) {
  for (size_t i = 0; i < config->rows; i++) {
    const qe_config_row *row = &config->row[i];
    if (qe_config_is_default(row) == chosen) continue;
    qe_page_words(page, "<tr><td><code>", row->key, "</code></td>");
    qe_page_words(page, "<td class=\"text wrap\">", row->value, "</td>");
    qe_page_words(page, "<td class=\"text faint\">", row->origin, "</td></tr>\n");
  }
}

static size_t count_rows(const qe_config *config, bool chosen) {
  size_t count = 0;
  for (size_t i = 0; i < config->rows; i++) count += qe_config_is_default(&config->row[i]) != chosen;
  return count;
}

static void write_table(qe_page *page, const qe_config *config, bool chosen) {
  qe_page_add(page, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                    "aria-label=\"Options\"><table><thead><tr><th>option</th><th "
                    "class=\"text\">value</th><th class=\"text\">from</th></tr></thead><tbody>\n");
  write_rows(page, config, chosen);
  qe_page_add(page, "</tbody></table></div>\n");
}

void qe_section_config(qe_page *page, const qe_report *report, const qe_report_run *run) {
  (void)report;
  if (run->config.rows == 0) return;
  size_t chosen = count_rows(&run->config, true), other = count_rows(&run->config, false);
  if (chosen > 0) {
    qe_page_add(page, "<details><summary>%zu option%s set for this run</summary>\n", chosen, chosen == 1 ? "" : "s");
    write_table(page, &run->config, true);
    qe_page_add(page, "</details>\n");
  }
  if (other > 0) {
    qe_page_add(page, "<details><summary>%zu at their defaults</summary>\n", other);
    write_table(page, &run->config, false);
    qe_page_add(page, "</details>\n");
  }
  qe_page_add(page, "<details><summary>config.yaml</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                    "aria-label=\"config.yaml\"><pre>");
  for (const char *at = run->config_text; *at;) { /* a line at a time, as pre keeps line ends but not control letters */
    size_t length = 0;
    char line[512];
    while (at[length] && at[length] != '\n' && length < sizeof line - 1) {
      line[length] = at[length];
      length++;
    }
    line[length] = 0;
    qe_page_words(page, "", line, at[length] == '\n' ? "\n" : "");
    at += length + (at[length] == '\n');
  }
  qe_page_add(page, "</pre></div></details>\n");
}
