/* The stages of progressive quantisation: from their names or a scheme, with epochs and rates. */
#include "core/base/alloc.h"
#include "core/methods/progressive.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

enum { WIDTHS = 9, NUMBER = 64 }; /* 1 to 8 bits and float */

/* Phases are called by these; they outlive every run. */
static const char *name_of(int weights, int activations) {
#define ROW(w)                                                                                                         \
  { "w" w "a1", "w" w "a2", "w" w "a3", "w" w "a4", "w" w "a5", "w" w "a6", "w" w "a7", "w" w "a8", "w" w "a32" }
  static const char names[WIDTHS][WIDTHS][8] = {ROW("1"), ROW("2"), ROW("3"), ROW("4"), ROW("5"),
                                                ROW("6"), ROW("7"), ROW("8"), ROW("32")};
#undef ROW
  return names[weights == QE_FLOAT_BITS ? WIDTHS - 1 : weights - 1]
              [activations == QE_FLOAT_BITS ? WIDTHS - 1 : activations - 1];
}

static qe_status append(qe_progressive_course *course, int weights, int activations) {
  const char *name = name_of(weights, activations);
  for (int i = 0; i < course->stages; i++)
    if (course->stage[i].name == name) return qe_fail(QE_USAGE, "progressive stages: %s comes twice", name);
  if (course->stages == QE_PROGRESSIVE_STAGES)
    return qe_fail(QE_USAGE, "progressive stages: at most %d", QE_PROGRESSIVE_STAGES);
  course->stage[course->stages++] =
      (qe_progressive_stage){.name = name, .weights = weights, .activations = activations};
  return QE_OK;
}

/* ---- schemes ---- */

static int higher(int a, int b) {
  return a > b ? a : b;
}

static bool is_new(const qe_progressive_course *course, int weights, int activations) {
  return course->stages == 0 || course->stage[course->stages - 1].name != name_of(weights, activations);
}

static qe_status append_new(qe_progressive_course *course, int weights, int activations) {
  return is_new(course, weights, activations) ? append(course, weights, activations) : QE_OK;
}

/* 8, 4, 2, 1 bits, as far as they are above those of the end. */
static const int falling[] = {8, 4, 2, 1};
enum { FALLS = sizeof falling / sizeof *falling };

static qe_status add_direct(const qe_bits *end, qe_progressive_course *course) {
  return append_new(course, end->weights, end->activations);
}

static qe_status add_precision(const qe_bits *end, qe_progressive_course *course) {
  for (int i = 0; i < FALLS; i++)
    if (falling[i] > end->weights || falling[i] > end->activations)
      QE_TRY(append_new(course, higher(falling[i], end->weights), higher(falling[i], end->activations)));
  return add_direct(end, course);
}

static qe_status add_two(const qe_bits *end, qe_progressive_course *course) {
  if (end->weights != QE_FLOAT_BITS) QE_TRY(append_new(course, end->weights, QE_FLOAT_BITS));
  return add_direct(end, course);
}

static qe_status add_two_precision(const qe_bits *end, qe_progressive_course *course) {
  for (int i = 0; i < FALLS && end->weights != QE_FLOAT_BITS; i++)
    QE_TRY(append_new(course, higher(falling[i], end->weights), QE_FLOAT_BITS));
  for (int i = 0; i < FALLS && end->activations != QE_FLOAT_BITS; i++)
    QE_TRY(append_new(course, end->weights, higher(falling[i], end->activations)));
  return add_direct(end, course);
}

typedef struct scheme {
  const char *name;
  qe_status (*add)(const qe_bits *end, qe_progressive_course *course);
} scheme;
static const scheme schemes[] = {{"direct", add_direct},
                                 {"precision", add_precision},
                                 {"two-stage", add_two},
                                 {"two-stage-precision", add_two_precision}};

enum { SCHEMES = sizeof schemes / sizeof *schemes };

const char *qe_progressive_scheme(int index) {
  return index >= 0 && index < SCHEMES ? schemes[index].name : NULL;
}

/* ---- lists ---- */

/* The bits behind `letter` at *at, which moves behind them. */
static bool read_bits(const char **at, char letter, int *bits) {
  char *end = NULL;
  if (**at != letter || (*at)[1] < '0' || (*at)[1] > '9') return false;
  long value = strtol(*at + 1, &end, 10);
  *at = end;
  *bits = (int)value;
  return (value >= 1 && value <= 8) || value == QE_FLOAT_BITS;
}

static qe_status add_named(const char *text, qe_progressive_course *course) {
  for (const char *at = text; *at;) {
    const char *item = at;
    int weights = 0, activations = 0;
    bool good = read_bits(&at, 'w', &weights) && read_bits(&at, 'a', &activations) && (*at == ',' || !*at);
    if (!good || (*at == ',' && !at[1]))
      return qe_fail(QE_USAGE,
                     "progressive stages '%.40s': write w4a32 for 4-bit weights and float activations, with commas "
                     "between stages, bits 1 to 8 or 32; or precision, two-stage, two-stage-precision, direct",
                     item);
    if (weights == QE_FLOAT_BITS && activations == QE_FLOAT_BITS)
      return qe_fail(QE_USAGE, "progressive stages: w32a32 is full precision, which float epochs or init stand for");
    QE_TRY(append(course, weights, activations));
    at += *at == ',';
  }
  return QE_OK;
}

static qe_status add_stages(const char *text, const qe_bits *end, qe_progressive_course *course) {
  for (int i = 0; i < SCHEMES; i++)
    if (strcmp(text, schemes[i].name) == 0) return schemes[i].add(end, course);
  QE_TRY(add_named(text, course));
  const qe_progressive_stage *last = course->stages > 0 ? &course->stage[course->stages - 1] : NULL;
  if (last && last->weights == end->weights && last->activations == end->activations) return QE_OK;
  return qe_fail(QE_USAGE, "progressive stages '%s' must end with %s, the run's bits; or change these", text,
                 name_of(end->weights, end->activations));
}

/* Numbers with commas between, one a stage; nothing: *any is false. */
static qe_status read_numbers(const char *what, const char *text, int stages, double *number, bool *any) {
  int count = 0;
  *any = *text != 0;
  for (const char *at = text; *at; count++) {
    char *end = NULL;
    errno = 0;
    double value = strtod(at, &end);
    if (errno || end == at || !isfinite(value) || value < 0 || (*end && *end != ',') || (*end == ',' && !end[1]))
      return qe_fail(QE_USAGE, "progressive %s '%s': write a number for each stage, with commas between", what, text);
    if (count < stages) number[count] = value;
    at = end + (*end == ',');
  }
  if (!*any || count == stages) return QE_OK;
  return qe_fail(QE_USAGE, "progressive %s '%s': %d numbers, there are %d stages", what, text, count, stages);
}

/* Half of them are the last stage's, with what the others leave; all are alike where there are two. */
static qe_status divide_epochs(int32_t epochs, qe_progressive_course *course) {
  int before = course->stages - 1;
  int32_t each = before ? epochs / 2 / before : 0;
  if (epochs < course->stages)
    return qe_fail(QE_USAGE, "%d epochs for %d stages: each needs one at least", epochs, course->stages);
  if (before && each < 1) each = 1;
  for (int i = 0; i < before; i++) course->stage[i].epochs = each;
  course->stage[before].epochs = epochs - each * before;
  return QE_OK;
}

static qe_status set_epochs(const char *text, int32_t epochs, qe_progressive_course *course) {
  double number[QE_PROGRESSIVE_STAGES] = {0};
  bool any;
  QE_TRY(read_numbers("epochs", text, course->stages, number, &any));
  if (!any) return divide_epochs(epochs, course);
  for (int i = 0; i < course->stages; i++) {
    if (number[i] < 1 || number[i] > INT32_MAX || number[i] != floor(number[i]))
      return qe_fail(QE_USAGE, "progressive epochs '%s': whole numbers from 1 on", text);
    course->stage[i].epochs = (int32_t)number[i];
  }
  return QE_OK;
}

qe_status qe_progressive_read(const qe_progressive_setting *setting, const qe_bits *bits,
                              const qe_train_options *options, qe_progressive_course *course) {
  qe_progressive_setting own = *setting;
  double rate[QE_PROGRESSIVE_STAGES] = {0};
  bool rates;
#define QE_PROGRESSIVE_TEXT(member, name, initial, metavar, help)                                                      \
  if (!own.member) own.member = initial;
#include "core/methods/progressive_options.def"
#undef QE_PROGRESSIVE_TEXT
  *course = (qe_progressive_course){0};
  if (bits->weights == QE_FLOAT_BITS && bits->activations == QE_FLOAT_BITS)
    return qe_fail(QE_USAGE, "progressive quantisation needs low bits to go to; set weight-bits or act-bits");
  QE_TRY(add_stages(own.stages, bits, course));
  QE_TRY(set_epochs(own.epochs, options->epochs, course));
  QE_TRY(read_numbers("rates", own.rates, course->stages, rate, &rates));
  for (int i = 0; i < course->stages; i++) course->stage[i].rate = rates ? rate[i] : options->schedule.rate;
  return QE_OK;
}

/* ---- bits ---- */

/* One exception, "fc=w4a4", as a stage has it, behind what is in `to`; bits that the stage leaves float are dropped. */
static char *add_exception(char *to, const char *item, int length, const qe_progressive_stage *stage) {
  int name = 0;
  char bits[NUMBER] = "";
  size_t used = 0;
  while (name < length && item[name] != '=') name++;
  for (int at = name + 1; at < length; at++) {
    if (item[at] != 'w' && item[at] != 'a') continue;
    int least = item[at] == 'w' ? stage->weights : stage->activations, own = atoi(item + at + 1);
    if (least == QE_FLOAT_BITS || used + 8 > sizeof bits) continue;
    used += (size_t)snprintf(bits + used, sizeof bits - used, "%c%d", item[at], higher(own, least));
  }
  char *whole = used ? qe_format("%s%s%.*s=%s", to, *to ? "," : "", name, item, bits) : qe_strdup(to);
  qe_free(to);
  return whole;
}

/* Skip connections and the first and last layer are no coarser than the rest. */
static void lift_places(qe_bits *bits) {
  if (bits->activations != QE_FLOAT_BITS) bits->residual = higher(bits->residual, bits->activations);
  if (bits->edges == 0) return;
  if (bits->weights != QE_FLOAT_BITS) bits->edges = higher(bits->edges, bits->weights);
  if (bits->activations != QE_FLOAT_BITS) bits->edges = higher(bits->edges, bits->activations);
}

qe_status qe_progressive_bits(const qe_progressive_stage *stage, const qe_bits *end, qe_bits *bits, char **layers) {
  bool is_end = stage->weights == end->weights && stage->activations == end->activations;
  *bits = *end;
  *layers = NULL;
  bits->weights = stage->weights;
  bits->activations = stage->activations;
  if (is_end) return QE_OK;
  lift_places(bits);
  if (!end->layers) return QE_OK;
  char *text = qe_strdup("");
  for (const char *at = end->layers; text && *at;) {
    int length = (int)strcspn(at, ",");
    text = add_exception(text, at, length, stage);
    at += length + (at[length] == ',');
  }
  if (!text) return QE_NO_MEMORY;
  bits->layers = *layers = text;
  return QE_OK;
}
