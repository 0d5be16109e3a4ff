/* Progress of a training run: one redrawn line on a terminal, plain lines elsewhere. */
#include "tools/progress.h"

#include "tools/command.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

enum { BAR_MIN = 8, BAR_MAX = 30, PART_TEXT = 160 };

static double monotonic_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double seconds_now(const qe_progress *progress) {
  return progress->clock ? progress->clock() : monotonic_seconds();
}

/* ---- text ---- */

char *qe_duration_text(double seconds, char text[32]) {
  if (!(seconds >= 0 && seconds < 1e9)) seconds = 0;
  int64_t all = (int64_t)ceil(seconds);
  int second = (int)(all % 60), minute = (int)(all / 60 % 60);
  if (all >= 3600)
    snprintf(text, 32, "%" PRId64 ":%02d:%02d", all / 3600, minute, second);
  else
    snprintf(text, 32, "%d:%02d", minute, second);
  return text;
}

static double part_done(const qe_progress_point *point) {
  if (point->epoch_images <= 0) return 0;
  double done = (double)point->images / (double)point->epoch_images;
  return done < 0 ? 0 : done > 1 ? 1 : done;
}

static int64_t images_done(const qe_progress_point *point) {
  return (int64_t)(point->epoch - 1) * point->epoch_images + point->images;
}

/* What stands after the bar; the time left only when it can be told. */
static void numbers_text(const qe_progress *progress, const qe_progress_point *point, char *text) {
  char left[32] = "", rate[48] = "";
  if (progress->rate > 0) {
    double images = (double)((int64_t)point->epochs * point->epoch_images - images_done(point));
    snprintf(rate, sizeof rate, "  %.0f img/s", progress->rate);
    qe_duration_text(images / progress->rate, left);
  }
  snprintf(text, PART_TEXT, "  loss %.4f  acc %.2f%%%s%s%s", point->loss, point->accuracy, rate, *left ? "  left " : "",
           left);
}

static void bar_text(double done, int length, char *text) {
  int filled = (int)(done * length);
  *text++ = '[';
  for (int i = 0; i < length; i++) *text++ = i < filled ? '=' : i == filled ? '>' : ' ';
  *text++ = ']';
  *text = 0;
}

char *qe_progress_line(const qe_progress *progress, const qe_progress_point *point, int width,
                       char line[QE_PROGRESS_LINE]) {
  char head[PART_TEXT], numbers[PART_TEXT], bar[BAR_MAX + 8] = "";
  double done = part_done(point);
  snprintf(head, sizeof head, "epoch %d/%d", point->epoch, point->epochs);
  numbers_text(progress, point, numbers);
  int place = width - (int)strlen(head) - (int)strlen(numbers) - 9; /* blanks, brackets, " 100%" */
  if (width > 0 && place >= BAR_MIN) bar_text(done, place > BAR_MAX ? BAR_MAX : place, bar);
  snprintf(line, QE_PROGRESS_LINE, "%s%s%s %3.0f%%%s", head, *bar ? " " : "", bar, floor(100 * done), numbers);
  if (width > 0 && (int)strlen(line) >= width && width < QE_PROGRESS_LINE) line[width - 1] = 0;
  return line;
}

/* ---- state ---- */

/* Exponential smoothing in time, so that it does not depend on how often this is called. */
static void measure(qe_progress *progress, const qe_progress_point *point, double now) {
  int64_t images = images_done(point);
  double seconds = now - progress->measured_at;
  if (!progress->started) {
    progress->started = true;
    progress->drawn_at = now;
  } else if (seconds >= 0.05 && images > progress->measured_images) {
    double rate = (double)(images - progress->measured_images) / seconds;
    double weight = progress->rate > 0 ? 1 - exp(-seconds / QE_PROGRESS_SMOOTH) : 1;
    progress->rate += weight * (rate - progress->rate);
  } else {
    return;
  }
  progress->measured_at = now;
  progress->measured_images = images;
}

void qe_progress_clear(qe_progress *progress) {
  if (!progress->line_open) return;
  fputs("\r\x1b[K", progress->file);
  fflush(progress->file);
  progress->line_open = false;
}

void qe_progress_update(qe_progress *progress, const qe_progress_point *point) {
  char line[QE_PROGRESS_LINE];
  if (!progress->file) return;
  double now = seconds_now(progress);
  bool first = !progress->started;
  measure(progress, point, now);
  int width = qe_terminal_width(progress->file);
  if (!first && now - progress->drawn_at < (width ? 0.1 : QE_PROGRESS_PLAIN_SECONDS)) return;
  if (first && !width) return; /* nothing to tell yet */
  progress->drawn_at = now;
  progress->line_open = width > 0;
  fprintf(progress->file, width ? "\r%s\x1b[K" : "%s\n", qe_progress_line(progress, point, width, line));
  fflush(progress->file);
}

void qe_progress_epoch(qe_progress *progress, const qe_progress_point *point, const char *result) {
  char rate[48] = "";
  if (!progress->file) return;
  double now = seconds_now(progress);
  measure(progress, point, now);
  progress->drawn_at = now;
  if (progress->rate > 0) snprintf(rate, sizeof rate, "  %.0f img/s", progress->rate);
  qe_progress_note(progress, "epoch %d/%d  loss %.4f  acc %.2f%%%s%s%s", point->epoch, point->epochs, point->loss,
                   point->accuracy, rate, *result ? "  " : "", result);
}

void qe_progress_note(qe_progress *progress, const char *format, ...) {
  va_list args;
  if (!progress->file) return;
  qe_progress_clear(progress);
  va_start(args, format);
  vfprintf(progress->file, format, args);
  va_end(args);
  fputc('\n', progress->file);
  fflush(progress->file);
}
