/* Histograms, and strips of a map. */
#include "core/page/plot.h"

#include <math.h>

enum { WIDTH = 160, HEIGHT = 92, BASE = 76 };

/* `share`: of the width of a place that a bar takes. */
static void add_outline(qe_page *page, const int64_t *count, int bins, int64_t most, double share, const char *kind) {
  double each = (double)WIDTH / bins, inset = each * (1 - share) / 2, gap = each > 4 ? 1 : each > 1.5 ? 0.3 : 0;
  qe_page_add(page, "<path class=\"%s\" d=\"", kind);
  for (int i = 0; i < bins; i++) {
    if (count[i] <= 0) continue;
    double high = fmax(BASE * (double)count[i] / (double)most, 0.8);
    qe_page_add(page, "M%.2f %dv%.2fh%.2fv%.2fz", each * i + inset, BASE, -high, each * share - gap, high);
  }
  qe_page_add(page, "\"/>");
}

void qe_page_histogram(qe_page *page, const qe_histogram *h) {
  char text[QE_NUMBER_TEXT];
  int64_t most = 1, sum = 0, top = 0;
  for (int i = 0; i < h->bins; i++) {
    most = h->count[i] > most ? h->count[i] : most;
    if (h->before && h->before[i] > most) most = h->before[i];
    top = h->count[i] > top ? h->count[i] : top;
    sum += h->count[i];
  }
  qe_page_words(page, "<figure><figcaption>", h->title, "");
  if (h->note) qe_page_words(page, "<span>", h->note, "</span>");
  qe_page_add(page, "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\">", WIDTH, HEIGHT);
  qe_page_words(page, "<title>", h->title, "</title><desc>");
  qe_page_words(page, "Histogram from ", h->low, "");
  qe_page_words(page, " to ", h->high, "");
  qe_page_add(page, "; the fullest place holds %.1f %% of %s.</desc>", sum ? 100.0 * (double)top / (double)sum : 0,
              qe_whole_text(sum, text));
  if (h->before) add_outline(page, h->before, h->bins, most, 1, "fsoft");
  add_outline(page, h->count, h->bins, most, h->before && h->bins <= 64 ? 0.5 : 1, "f0");
  qe_page_add(page, "<line class=\"axis\" x1=\"0\" x2=\"%d\" y1=\"%d.5\" y2=\"%d.5\"/>", WIDTH, BASE, BASE);
  if (h->zero >= 0)
    qe_page_add(page, "<text class=\"mid faint\" x=\"%.1f\" y=\"%d\">0</text>", h->zero * WIDTH, HEIGHT - 3);
  qe_page_add(page, "<text class=\"faint\" x=\"0\" y=\"%d\">", HEIGHT - 3);
  qe_page_words(page, "", h->low, "</text>");
  qe_page_add(page, "<text class=\"faint end\" x=\"%d\" y=\"%d\">", WIDTH, HEIGHT - 3);
  qe_page_words(page, "", h->high, "</text></svg></figure>\n");
}

void qe_page_strip(qe_page *page, const char *name, const double *cell, size_t cells) {
  qe_page_words(page, "<span>", name, "</span>");
  qe_page_add(page, "<svg viewBox=\"0 0 %zu 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\">", cells ? cells : 1);
  for (size_t i = 0; i < cells; i++)
    if (cell[i] > 0)
      qe_page_add(page, "<path class=\"f0\" fill-opacity=\"%.2f\" d=\"M%zu 0h1v1h-1z\"/>", fmin(cell[i], 1), i);
  qe_page_add(page, "</svg>\n");
}
