/* Sections: which classes are taken for which, and the mistakes that the network is surest of. */
#include "core/page/picture.h"
#include "core/report/report_parts.h"

#include <math.h>
#include <stdio.h>

enum { MOST_CLASSES = 40, MOST_CONFUSIONS = 12, PICTURE_SIDE = 96 };

static int64_t row_sum(const qe_findings *found, int label) {
  int64_t sum = 0;
  for (int i = 0; i < found->classes; i++) sum += found->confusion[(int64_t)label * found->classes + i];
  return sum;
}

static int64_t column_sum(const qe_findings *found, int class) {
  int64_t sum = 0;
  for (int i = 0; i < found->classes; i++) sum += found->confusion[(int64_t)i * found->classes + class];
  return sum;
}

/* The largest share of a class that is taken for one other. */
static double worst_share(const qe_findings *found) {
  double worst = 0;
  for (int i = 0; i < found->classes; i++) {
    double all = (double)row_sum(found, i);
    for (int k = 0; k < found->classes && all > 0; k++)
      if (k != i) worst = fmax(worst, (double)found->confusion[(int64_t)i * found->classes + k] / all);
  }
  return worst;
}

/* ---- the matrix ---- */

static void write_cell(qe_page *page, const qe_findings *found, int label, int predicted, double all, double worst) {
  int64_t count = found->confusion[(int64_t)label * found->classes + predicted];
  char text[QE_NUMBER_TEXT];
  double share = all > 0 ? (double)count / all : 0, depth = label == predicted ? share : worst > 0 ? share / worst : 0;
  if (count == 0) {
    qe_page_add(page, "<td class=\"zero\">0</td>");
    return;
  }
  depth = 0.06 + 0.94 * depth;
  qe_page_add(page, "<td class=\"%s%s\" style=\"--v:%.2f\">%s</td>", label == predicted ? "g" : "e",
              depth > 0.95   ? " m on"
              : depth > 0.62 ? " m"
                             : "",
              depth, qe_whole_text(count, text));
}

static void write_matrix(qe_page *page, const qe_findings *found) {
  char text[QE_NUMBER_TEXT];
  double worst = worst_share(found);
  qe_page_add(
      page,
      "<div class=\"scroll matrix\" tabindex=\"0\" role=\"region\" aria-label=\"Confusion matrix\"><table><thead><tr>"
      "<td class=\"faint\">is \xE2\x86\x93 said \xE2\x86\x92</td>");
  for (int i = 0; i < found->classes; i++)
    qe_page_words(page, "<th scope=\"col\" class=\"t\">", qe_class_text(found, i, text), "</th>");
  qe_page_add(page, "</tr></thead><tbody>\n");
  for (int i = 0; i < found->classes; i++) {
    double all = (double)row_sum(found, i);
    qe_page_words(page, "<tr><th scope=\"row\">", qe_class_text(found, i, text), "</th>");
    for (int k = 0; k < found->classes; k++) write_cell(page, found, i, k, all, worst);
    qe_page_add(page, "</tr>\n");
  }
  qe_page_add(
      page,
      "</tbody></table></div>\n<p class=\"note\">Test images. Rows: what an image shows; columns: what the network "
      "says. Blue: right; orange: wrong, the deepest where ");
  qe_page_add(page, "%.1f %% of a class are taken for one other.</p>\n", 100 * worst);
}

/* ---- lists ---- */

typedef struct confusion {
  int label, predicted;
  int64_t count;
} confusion;

/* The most frequent ones in order. */
static int find_confusions(const qe_findings *found, confusion *list) {
  int count = 0;
  for (int i = 0; i < found->classes; i++)
    for (int k = 0; k < found->classes; k++) {
      int64_t here = i == k ? 0 : found->confusion[(int64_t)i * found->classes + k];
      int at = count;
      if (here == 0) continue;
      while (at > 0 && list[at - 1].count < here) at--;
      if (at == MOST_CONFUSIONS) continue;
      int last = count < MOST_CONFUSIONS ? count++ : MOST_CONFUSIONS - 1;
      for (int m = last; m > at; m--) list[m] = list[m - 1];
      list[at] = (confusion){i, k, here};
    }
  return count;
}

static void write_confusions(qe_page *page, const qe_findings *found) {
  confusion list[MOST_CONFUSIONS];
  char text[QE_NUMBER_TEXT];
  int count = find_confusions(found, list);
  if (count == 0) return;
  qe_page_add(page,
              "<details%s><summary>Most frequent confusions</summary><div class=\"scroll\"><table><thead><tr><th "
              "class=\"text\">is</th><th class=\"text\">taken for</th><th>images</th><th>of the "
              "class</th></tr></thead><tbody>\n",
              found->classes > MOST_CLASSES ? " open" : "");
  for (int i = 0; i < count; i++) {
    qe_page_words(page, "<tr><td>", qe_class_text(found, list[i].label, text), "</td>");
    qe_page_words(page, "<td class=\"text\">", qe_class_text(found, list[i].predicted, text), "</td>");
    qe_page_add(page, "<td>%s</td><td>%.1f %%</td></tr>\n", qe_whole_text(list[i].count, text),
                100 * (double)list[i].count / (double)row_sum(found, list[i].label));
  }
  qe_page_add(page, "</tbody></table></div></details>\n");
}

static void write_classes(qe_page *page, const qe_findings *found) {
  char text[QE_NUMBER_TEXT];
  qe_page_add(
      page,
      "<details><summary>By class</summary><div class=\"scroll\"><table><thead><tr><th>class</th><th>images</th><th "
      "class=\"text\" colspan=\"2\">recall: of the class, found</th><th>precision: said, "
      "right</th></tr></thead><tbody>\n");
  for (int i = 0; i < found->classes; i++) {
    double right = (double)found->confusion[(int64_t)i * found->classes + i], all = (double)row_sum(found, i),
           said = (double)column_sum(found, i);
    qe_page_words(page, "<tr><td>", qe_class_text(found, i, text), "</td>");
    qe_page_add(page, "<td>%s</td><td class=\"w\">", qe_whole_text((int64_t)all, text));
    qe_page_bar(page, all > 0 ? right / all : 0, "");
    qe_page_add(page, "</td><td>%.1f %%</td>", all > 0 ? 100 * right / all : 0);
    if (said > 0)
      qe_page_add(page, "<td>%.1f %%</td></tr>\n", 100 * right / said);
    else
      qe_page_add(page, "<td>\xE2\x80\x93</td></tr>\n");
  }
  qe_page_add(page, "</tbody></table></div></details>\n");
}

void qe_section_errors(qe_page *page, const qe_report *report, const qe_report_run *run) {
  (void)report;
  const qe_findings *found = &run->found;
  if (!found->confusion) return;
  if (found->classes <= MOST_CLASSES) write_matrix(page, found);
  write_classes(page, found);
  write_confusions(page, found);
}

/* ---- mistakes ---- */

static void write_mistake(qe_page *page, const qe_findings *found, int at) {
  const qe_mistake *mistake = &found->mistake[at];
  char label[QE_NUMBER_TEXT], predicted[QE_NUMBER_TEXT], alt[256];
  size_t each = (size_t)found->height * (size_t)found->width * (size_t)found->channels;
  const char *is = qe_class_text(found, mistake->label, label),
             *said = qe_class_text(found, mistake->predicted, predicted);
  snprintf(alt, sizeof alt, "test image %d: %s, taken for %s", mistake->image, is, said);
  qe_page_add(page, "<figure title=\"test image %d\">", mistake->image);
  qe_page_picture(page, found->pixels + (size_t)at * each, found->height, found->width, found->channels, PICTURE_SIDE,
                  alt);
  qe_page_words(page, "<figcaption>is ", is, "<br>");
  qe_page_words(page, "said <b>", said, "</b>");
  qe_page_add(page, "<br><span>%.2f %% sure</span></figcaption></figure>\n", 100 * (double)mistake->confidence);
}

void qe_section_mistakes(qe_page *page, const qe_report *report, const qe_report_run *run) {
  (void)report;
  const qe_findings *found = &run->found;
  char text[QE_NUMBER_TEXT];
  if (found->mistakes == 0) return;
  int64_t wrong = 0;
  for (int i = 0; i < found->classes; i++)
    wrong += row_sum(found, i) - found->confusion[(int64_t)i * found->classes + i];
  qe_page_add(page, "<p>Of %s wrong answers the %d with the highest softmax probability.</p>\n<div class=\"images\">\n",
              qe_whole_text(wrong, text), found->mistakes);
  for (int i = 0; i < found->mistakes; i++) write_mistake(page, found, i);
  qe_page_add(page, "</div>\n");
}
