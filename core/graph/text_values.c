/* Words and values of a description, and what is said when they are wrong. */
#include "core/base/nearest.h"
#include "core/graph/text_reader_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_MOST = 1 << 20 };

/* ---- messages ---- */

qe_status qe_text_fail_at(const qe_text_reader *r, const char *where, qe_status status) {
  return qe_fail_within(status, "%s:%d:%d", r->name, r->line, (int)(where - r->line_start) + 1);
}

/* What stands at the reader's place, for messages. */
static const char *found(const qe_text_reader *r, char *text, size_t size) {
  if (r->at == r->end || *r->at == '\n' || *r->at == '\r')
    snprintf(text, size, "the line ends");
  else if (*r->at > ' ' && *r->at < 127)
    snprintf(text, size, "'%c' stands here", *r->at);
  else
    snprintf(text, size, "byte 0x%02x stands here", (unsigned)(unsigned char)*r->at);
  return text;
}

qe_status qe_text_fail_expected(const qe_text_reader *r, const char *what) {
  char text[40];
  return qe_text_fail_at(r, r->at, qe_fail(QE_FORMAT, "%s, but %s", what, found(r, text, sizeof text)));
}

/* "no layer is called 'convv'; did you mean conv?" */
qe_status qe_text_fail_unknown(const qe_text_reader *r, const char *where, const char *what,
                               const qe_nearest *nearest) {
  const char *best = qe_nearest_name(nearest);
  return qe_text_fail_at(r, where,
                         best ? qe_fail(QE_FORMAT, "%s '%s'; did you mean %s?", what, nearest->word, best)
                              : qe_fail(QE_FORMAT, "%s '%s'", what, nearest->word));
}

/* ---- words ---- */

void qe_text_skip_blanks(qe_text_reader *r) {
  while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\r')) r->at++;
}

bool qe_text_at_line_end(const qe_text_reader *r) {
  return r->at == r->end || *r->at == '\n' || *r->at == '#';
}

static bool is_word_byte(char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') || byte == '_' ||
         byte == '.' || byte == '-' || byte == '+';
}

/* Letters, digits and _ . - + into text (QE_TEXT_WORD bytes). `what` is said where there is none. */
qe_status qe_text_read_word(qe_text_reader *r, const char *what, char *text) {
  size_t length = 0;
  const char *start = r->at;
  while (r->at < r->end && is_word_byte(*r->at)) {
    if (length == QE_TEXT_WORD - 1)
      return qe_text_fail_at(r, start, qe_fail(QE_FORMAT, "a word of more than %d bytes", QE_TEXT_WORD - 1));
    text[length++] = *r->at++;
  }
  text[length] = 0;
  return length ? QE_OK : qe_text_fail_expected(r, what);
}

bool qe_text_take(qe_text_reader *r, char byte) {
  if (r->at == r->end || *r->at != byte) return false;
  r->at++;
  return true;
}

/* ---- values ---- */

static qe_status read_number(qe_text_reader *r, int32_t *number) {
  const char *start = r->at;
  int32_t value = 0;
  while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
    value = value * 10 + (*r->at++ - '0');
    if (value > NUMBER_MOST) return qe_text_fail_at(r, start, qe_fail(QE_FORMAT, "a number above %d", NUMBER_MOST));
  }
  *number = value;
  return r->at > start ? QE_OK : qe_text_fail_expected(r, "a number is needed");
}

/* `count` numbers with `between` between them; or one, which stands for all where `one` is set. */
static qe_status read_numbers(qe_text_reader *r, int32_t *number, int count, char between, bool one) {
  for (int i = 0; i < count; i++) {
    char what[32];
    if (i && !qe_text_take(r, between)) {
      if (i > 1 || !one) {
        snprintf(what, sizeof what, "%d numbers with '%c'", count, between);
        return qe_text_fail_expected(r, what);
      }
      for (; i < count; i++) number[i] = number[0];
      return QE_OK;
    }
    QE_TRY(read_number(r, &number[i]));
  }
  return QE_OK;
}

static qe_status read_channels(qe_text_reader *r, int32_t *channels) {
  if (r->at < r->end && *r->at >= '0' && *r->at <= '9') return read_number(r, channels);
  const char *start = r->at;
  char word[QE_TEXT_WORD];
  QE_TRY(qe_text_read_word(r, "a number, or 'classes', is needed", word));
  qe_nearest nearest = {.word = word};
  qe_nearest_offer(&nearest, "classes");
  if (strcmp(word, "classes") != 0) return qe_text_fail_unknown(r, start, "neither a number nor 'classes':", &nearest);
  *channels = r->values->classes;
  return QE_OK;
}

static qe_status read_real(qe_text_reader *r, float *real) {
  const char *start = r->at;
  char word[QE_TEXT_WORD], *end;
  QE_TRY(qe_text_read_word(r, "a number is needed", word));
  *real = strtof(word, &end);
  if (*end || isnan(*real)) return qe_text_fail_at(r, start, qe_fail(QE_FORMAT, "'%s' is no number", word));
  return QE_OK;
}

static qe_status read_bits(qe_text_reader *r, int *bits) {
  const char *start = r->at;
  if (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
    QE_TRY(read_number(r, bits));
    if ((*bits >= 1 && *bits <= 8) || *bits == QE_FLOAT_BITS) return QE_OK;
    return qe_text_fail_at(r, start, qe_fail(QE_FORMAT, "%d bits: must be 1 to 8, or 32 for float", *bits));
  }
  char word[QE_TEXT_WORD];
  QE_TRY(qe_text_read_word(r, "bits, 1 to 8 or 32, are needed", word));
  qe_nearest nearest = {.word = word};
  for (int i = 0; i < QE_TEXT_BITS; i++) {
    const char *name = qe_text_bits_name((qe_text_bits)i);
    *bits = -1 - i;
    if (strcmp(word, name) == 0) return QE_OK;
    qe_nearest_offer(&nearest, name);
  }
  return qe_text_fail_unknown(r, start, "bits are 1 to 8, 32, or one of weight, act, first-last, residual; not",
                              &nearest);
}

static qe_status read_choice(qe_text_reader *r, const char *what, int count, const char *(*name)(int), int *choice) {
  const char *start = r->at;
  char word[QE_TEXT_WORD];
  QE_TRY(qe_text_read_word(r, what, word));
  qe_nearest nearest = {.word = word};
  for (*choice = 0; *choice < count; (*choice)++) {
    if (strcmp(word, name(*choice)) == 0) return QE_OK;
    qe_nearest_offer(&nearest, name(*choice));
  }
  return qe_text_fail_unknown(r, start, what, &nearest);
}

static const char *rule_name(int rule) {
  return qe_rule_name((qe_rule)rule);
}
static const char *grid_name(int grid) {
  return qe_grid_name((qe_grid)grid);
}

qe_status qe_text_find_node(const qe_text_reader *r, const char *where, const char *word, qe_node *node) {
  *node = qe_graph_find_node(r->graph, word);
  if (*node >= 0) return QE_OK;
  qe_nearest nearest = {.word = word};
  for (size_t i = 0; i < r->graph->nodes; i++) qe_nearest_offer(&nearest, r->graph->node[i].name);
  return qe_text_fail_unknown(r, where, "no line before this one is called", &nearest);
}

/* NODE.step */
static qe_status read_step(qe_text_reader *r, qe_node *node) {
  const char *start = r->at;
  char word[QE_TEXT_WORD];
  QE_TRY(qe_text_read_word(r, "the step of a quantiser is needed, as in relu1.step", word));
  size_t length = strlen(word), tail = strlen(".step");
  if (length <= tail || strcmp(word + length - tail, ".step") != 0)
    return qe_text_fail_at(r, start,
                           qe_fail(QE_FORMAT, "'%s' is no step of a quantiser; write it as in relu1.step", word));
  word[length - tail] = 0;
  return qe_text_find_node(r, start, word, node);
}

qe_status qe_text_read_value(qe_text_reader *r, const qe_text_key *key, qe_text_line *line) {
  void *place = (char *)line + key->place;
  int choice = 0;
  switch (key->kind) {
  case QE_TEXT_KIND_SHAPE:
    return read_numbers(r, place, 3, 'x', false);
  case QE_TEXT_KIND_PAIR:
    return read_numbers(r, place, 2, 'x', true);
  case QE_TEXT_KIND_PADS:
    return read_numbers(r, place, 4, ',', true);
  case QE_TEXT_KIND_COUNT:
    return read_number(r, place);
  case QE_TEXT_KIND_CHANNELS:
    return read_channels(r, place);
  case QE_TEXT_KIND_REAL:
    return read_real(r, place);
  case QE_TEXT_KIND_BITS:
    return read_bits(r, place);
  case QE_TEXT_KIND_RULE:
    QE_TRY(read_choice(r, "no rule of quantisers is called", QE_RULES, rule_name, &choice));
    line->quantizer.rule = (qe_rule)choice;
    line->rule_given = true;
    return QE_OK;
  case QE_TEXT_KIND_GRID:
    QE_TRY(read_choice(r, "no grid is called", QE_GRIDS, grid_name, &choice));
    line->quantizer.grid = (qe_grid)choice;
    line->grid_given = true;
    return QE_OK;
  case QE_TEXT_KIND_STEP:
    return read_step(r, place);
  default:
    *(bool *)place = true;
    return QE_OK;
  }
}
