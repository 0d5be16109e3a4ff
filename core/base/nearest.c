/* The nearest valid name to a mistyped one: optimal string alignment distance. */
#include "core/base/nearest.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { WORD_LIMIT = 63, TOO_LONG = 1000 };

static int min2(int a, int b) {
  return a < b ? a : b;
}

/* In whatever case. */
static bool same(char a, char b) {
  return tolower((unsigned char)a) == tolower((unsigned char)b);
}

int qe_edit_distance(const char *a, const char *b) {
  int rows[3][WORD_LIMIT + 1]; /* distances from the first i - 2, i - 1 and i bytes of a to the first j of b */
  size_t a_length = strlen(a), b_length = strlen(b);
  if (a_length > WORD_LIMIT || b_length > WORD_LIMIT) return TOO_LONG;
  int *before = rows[0], *last = rows[1], *row = rows[2];
  for (size_t j = 0; j <= b_length; j++) last[j] = (int)j;
  for (size_t i = 1; i <= a_length; i++) {
    row[0] = (int)i;
    for (size_t j = 1; j <= b_length; j++) {
      row[j] = min2(min2(last[j], row[j - 1]) + 1, last[j - 1] + !same(a[i - 1], b[j - 1]));
      if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
        row[j] = min2(row[j], before[j - 2] + 1);
    }
    int *free_row = before;
    before = last;
    last = row;
    row = free_row;
  }
  return last[b_length];
}

/* Of the word to the start of a longer name, and one more for what is cut off: "cifr" is meant for "cifar10". */
static int distance_to_start(const char *word, const char *name) {
  enum { SHORTEST = 4 };
  size_t length = strlen(word);
  int least = TOO_LONG;
  char start[WORD_LIMIT + 1];
  for (size_t cut = length; length >= SHORTEST && cut <= length + 1 && cut < strlen(name) && cut <= WORD_LIMIT; cut++) {
    snprintf(start, sizeof start, "%.*s", (int)cut, name);
    least = min2(least, 1 + qe_edit_distance(word, start));
  }
  return least;
}

void qe_nearest_offer(qe_nearest *nearest, const char *name) {
  enum { SHORTEST_PART = 3 };
  int distance = min2(qe_edit_distance(nearest->word, name), distance_to_start(nearest->word, name));
  if (!nearest->around && strlen(nearest->word) >= SHORTEST_PART && strstr(name, nearest->word)) nearest->around = name;
  if (nearest->best && distance >= nearest->distance) return;
  nearest->best = name;
  nearest->distance = distance;
}

const char *qe_nearest_name(const qe_nearest *nearest) {
  int allowed = 1 + (int)strlen(nearest->word) / 4;
  return nearest->best && nearest->distance <= allowed ? nearest->best : nearest->around;
}

const char *qe_nearest_hint(const qe_nearest *nearest, const char *before, char text[QE_NEAREST_TEXT]) {
  const char *best = qe_nearest_name(nearest);
  text[0] = 0;
  if (best) snprintf(text, QE_NEAREST_TEXT, "; did you mean %s%s?", before, best);
  return text;
}
