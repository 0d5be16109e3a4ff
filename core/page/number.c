/* Numbers as people read them. */
#include "core/page/page.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#define THIN_SPACE "\xE2\x80\xAF"
#define MINUS "\xE2\x88\x92"

const char *qe_whole_text(int64_t value, char text[QE_NUMBER_TEXT]) {
  char digits[24];
  uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
  int count = snprintf(digits, sizeof digits, "%" PRIu64, size);
  size_t used = (size_t)snprintf(text, QE_NUMBER_TEXT, "%s", value < 0 ? MINUS : "");
  /* Four digits stay together. */
  for (int i = 0; i < count; i++) {
    bool group = count > 4 && i > 0 && (count - i) % 3 == 0;
    used += (size_t)snprintf(text + used, QE_NUMBER_TEXT - used, "%s%c", group ? THIN_SPACE : "", digits[i]);
  }
  return text;
}

const char *qe_number_text(double value, char text[QE_NUMBER_TEXT]) {
  const double whole = 1000, most = 1e15;
  if (!isfinite(value)) {
    snprintf(text, QE_NUMBER_TEXT, "not finite");
  } else if (fabs(value) >= whole && fabs(value) < most) {
    return qe_whole_text((int64_t)llround(value), text);
  } else {
    snprintf(text, QE_NUMBER_TEXT, "%s%.4g", value < 0 ? MINUS : "", fabs(value));
  }
  return text;
}

/* `value` in the largest of the units, `base` apart, that leaves at least 1. */
static const char *scaled(double value, double base, const char *const *unit, int units, char text[QE_NUMBER_TEXT]) {
  int at = 0;
  double size = fabs(value);
  if (!isfinite(value)) return qe_number_text(value, text);
  while (at + 1 < units && size >= base) {
    size /= base;
    at++;
  }
  const char *space = *unit[at] ? "\xC2\xA0" : "";
  int places = at == 0 ? (fabs(size - rint(size)) > 0 ? 1 : 0) : size < 10 ? 2 : size < 100 ? 1 : 0;
  snprintf(text, QE_NUMBER_TEXT, "%s%.*f%s%s", value < 0 ? MINUS : "", places, size, space, unit[at]);
  return text;
}

const char *qe_count_text(double value, char text[QE_NUMBER_TEXT]) {
  static const char *const unit[] = {"", "k", "M", "G", "T", "P"};
  return scaled(value, 1000, unit, sizeof unit / sizeof *unit, text);
}

const char *qe_bytes_text(double value, char text[QE_NUMBER_TEXT]) {
  static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  return scaled(value, 1024, unit, sizeof unit / sizeof *unit, text);
}

const char *qe_seconds_text(double value, char text[QE_NUMBER_TEXT]) {
  const double longest = 1e12;
  if (!(value >= 0 && value < longest)) return qe_number_text(value, text);
  int64_t seconds = (int64_t)llround(value);
  if (value < 10)
    snprintf(text, QE_NUMBER_TEXT, "%.2g\xC2\xA0s", value);
  else if (seconds < 120)
    snprintf(text, QE_NUMBER_TEXT, "%" PRId64 "\xC2\xA0s", seconds);
  else if (seconds < 7200)
    snprintf(text, QE_NUMBER_TEXT, "%" PRId64 "\xC2\xA0min %" PRId64 "\xC2\xA0s", seconds / 60, seconds % 60);
  else
    snprintf(text, QE_NUMBER_TEXT, "%" PRId64 "\xC2\xA0h %" PRId64 "\xC2\xA0min", seconds / 3600, seconds / 60 % 60);
  return text;
}
