/* Progress of a search: one redrawn line on a terminal, plain lines elsewhere. */
#include "tools/search_progress.h"

#include "tools/command.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

static double monotonic_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

typedef struct line {
  char *text;
  size_t used;
} line;

static void add(line *l, const char *format, ...) QE_PRINTF(2, 3);
static void add(line *l, const char *format, ...) {
  va_list args;
  if (l->used >= QE_PROGRESS_LINE - 1) return;
  va_start(args, format);
  int written = vsnprintf(l->text + l->used, QE_PROGRESS_LINE - l->used, format, args);
  va_end(args);
  if (written > 0) l->used += (size_t)written;
}

static void add_course(line *l, const qe_search_report *report) {
  char left[32];
  if (report->images_per_second <= 0 || report->best < 0) return;
  add(l, "  %.0f img/s", report->images_per_second);
  if (report->budget > report->spent)
    add(l, "  left %s", qe_duration_text((double)(report->budget - report->spent) / report->images_per_second, left));
}

char *qe_search_line(const qe_search_report *report, bool hash, int width, char text[QE_PROGRESS_LINE]) {
  line l = {text, 0};
  text[0] = 0;
  add(&l, "%s %lld", report->stage, (long long)report->generation);
  if (report->budget > 0) add(&l, " %3.0f%%", floor(100 * fmin(1, (double)report->spent / (double)report->budget)));
  if (report->best >= 0) add(&l, "  best %.4f", report->best);
  if (report->mean >= 0) add(&l, "  mean %.4f", report->mean);
  if (report->held_out >= 0) add(&l, "  held out %.4f", report->held_out);
  if (report->confident >= 0) add(&l, "  confident %.1f%%", report->confident);
  if (report->best < 0) add(&l, "  changed %lld", (long long)report->changed);
  if (hash) add(&l, "  hash %016llx", (unsigned long long)report->hash);
  add_course(&l, report);
  if (width > 0 && width < QE_PROGRESS_LINE && (int)strlen(text) >= width) text[width - 1] = 0;
  return text;
}

void qe_search_progress(qe_progress *progress, const qe_search_report *report, bool hash) {
  char text[QE_PROGRESS_LINE];
  if (!progress->file) return;
  if (hash) { /* every generation stays */
    qe_progress_note(progress, "%s", qe_search_line(report, true, 0, text));
    return;
  }
  double now = progress->clock ? progress->clock() : monotonic_seconds();
  int width = qe_terminal_width(progress->file);
  if (progress->started && now - progress->drawn_at < (width ? 0.1 : QE_PROGRESS_PLAIN_SECONDS)) return;
  progress->started = true;
  progress->drawn_at = now;
  progress->line_open = width > 0;
  fprintf(progress->file, width ? "\r%s\x1b[K" : "%s\n", qe_search_line(report, false, width, text));
  fflush(progress->file);
}
