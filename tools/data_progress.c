/* Progress of a download: one redrawn line on a terminal, plain lines elsewhere. */
#include "tools/data_progress.h"

#include "tools/command.h"
#include "tools/progress.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define MIB (1024.0 * 1024.0)
enum { SMOOTH_SECONDS = 5, PLAIN_SECONDS = 10 };

static double seconds_now(const qe_data_progress *progress) {
  struct timespec now;
  if (progress->clock) return progress->clock();
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

char *qe_data_progress_line(const qe_data_progress *progress, int64_t arrived, int64_t bytes, int width,
                            char line[QE_DATA_LINE]) {
  char speed[64] = "", left[32];
  double percent = bytes > 0 ? floor(100 * (double)arrived / (double)bytes) : 0;
  const char *unit = progress->rate < MIB ? "KiB" : "MiB";
  if (progress->rate > 0)
    snprintf(speed, sizeof speed, "  %.1f %s/s  left %s", progress->rate / (progress->rate < MIB ? 1024 : MIB), unit,
             qe_duration_text((double)(bytes - arrived) / progress->rate, left));
  snprintf(line, QE_DATA_LINE, "%s  %3.0f%%  %.1f/%.1f MiB%s", progress->name, percent, (double)arrived / MIB,
           (double)bytes / MIB, speed);
  if (width > 0 && width < QE_DATA_LINE) line[width - 1] = 0;
  return line;
}

/* The rate over time, smoothed; a part that was here before counts for nothing. */
static void measure(qe_data_progress *progress, int64_t arrived, double now) {
  double seconds = now - progress->measured_at;
  if (arrived < progress->measured_bytes) { /* begun again */
    progress->measured_bytes = arrived;
    progress->measured_at = now;
  }
  if (seconds < 0.25 || arrived == progress->measured_bytes) return;
  double rate = (double)(arrived - progress->measured_bytes) / seconds;
  double weight = progress->rate > 0 ? 1 - exp(-seconds / SMOOTH_SECONDS) : 1;
  progress->rate += weight * (rate - progress->rate);
  progress->measured_at = now;
  progress->measured_bytes = arrived;
}

void qe_data_progress_update(qe_data_progress *progress, const char *name, int64_t arrived, int64_t bytes) {
  char line[QE_DATA_LINE];
  if (!progress->file) return;
  double now = seconds_now(progress);
  if (!progress->name || strcmp(progress->name, name) != 0) {
    progress->name = name;
    progress->rate = 0;
    progress->measured_bytes = arrived;
    progress->measured_at = progress->drawn_at = now;
  }
  measure(progress, arrived, now);
  int width = qe_terminal_width(progress->file);
  if (now - progress->drawn_at < (width ? 0.1 : PLAIN_SECONDS)) return;
  progress->drawn_at = now;
  progress->line_open = width > 0;
  fprintf(progress->file, width ? "\r%s\x1b[K" : "%s\n", qe_data_progress_line(progress, arrived, bytes, width, line));
  fflush(progress->file);
}

void qe_data_progress_clear(qe_data_progress *progress) {
  if (!progress->line_open) return;
  fputs("\r\x1b[K", progress->file);
  fflush(progress->file);
  progress->line_open = false;
}

void qe_data_progress_note(qe_data_progress *progress, const char *text) {
  if (!progress->file) return;
  qe_data_progress_clear(progress);
  fprintf(progress->file, "%s\n", text);
  fflush(progress->file);
}
