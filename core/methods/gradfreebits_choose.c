/* The allocations that a search has met, and which of them a round goes on with. */
#include "core/methods/gradfreebits_parts.h"

#include "core/base/alloc.h"
#include "core/base/json.h"

#include <stdio.h>
#include <string.h>

enum { MOST_FOUND = 256 };
static const int64_t confirm_first = INT64_C(1) << 40; /* batches that no generation has */

/* ---- the list ---- */

static double mean_of(const qe_gfb_found *found) {
  return found->sum / (double)found->count;
}

/* Up or down to where its mean belongs; equal ones stay in the order in which they came. */
static void move_to_place(qe_gfb_list *list, size_t at) {
  qe_gfb_found moved = list->found[at];
  for (; at > 0 && mean_of(&list->found[at - 1]) > mean_of(&moved); at--) list->found[at] = list->found[at - 1];
  for (; at + 1 < list->count && mean_of(&list->found[at + 1]) < mean_of(&moved); at++)
    list->found[at] = list->found[at + 1];
  list->found[at] = moved;
}

qe_status qe_gfb_list_add(qe_gfb_list *list, int32_t places, const int32_t *bits, double value) {
  size_t at = 0, bytes = (size_t)places * sizeof *bits;
  while (at < list->count && memcmp(list->found[at].bits, bits, bytes) != 0) at++;
  if (at == list->count) {
    if (at == MOST_FOUND && mean_of(&list->found[at - 1]) <= value) return QE_OK;
    int32_t *copy = qe_alloc(bytes);
    if (!copy) return QE_NO_MEMORY;
    memcpy(copy, bits, bytes);
    qe_status status = qe_reserve(&list->found, &list->capacity, at + 1, sizeof *list->found);
    if (status != QE_OK) {
      qe_free(copy);
      return status;
    }
    if (at == MOST_FOUND) qe_free(list->found[--at].bits);
    list->count = at + 1;
    list->found[at] = (qe_gfb_found){.bits = copy};
  }
  list->found[at].sum += value;
  list->found[at].count++;
  move_to_place(list, at);
  return QE_OK;
}

void qe_gfb_list_free(qe_gfb_list *list) {
  for (size_t i = 0; i < list->count; i++) qe_free(list->found[i].bits);
  qe_free(list->found);
  *list = (qe_gfb_list){0};
}

/* Sums as the bits of their doubles: exact. */
qe_status qe_gfb_list_give(const qe_gfb_list *list, int32_t places, qe_tensors *state) {
  int64_t shape[2] = {(int64_t)list->count, places};
  QE_TRY(qe_tensors_add(state, "gradfreebits.found", QE_S32, 2, shape, NULL));
  QE_TRY(qe_tensors_add(state, "gradfreebits.found_sum", QE_S64, 1, shape, NULL));
  QE_TRY(qe_tensors_add(state, "gradfreebits.found_count", QE_S64, 1, shape, NULL));
  int32_t *bits = qe_tensors_find(state, "gradfreebits.found")->data;
  int64_t *sum = qe_tensors_find(state, "gradfreebits.found_sum")->data;
  int64_t *count = qe_tensors_find(state, "gradfreebits.found_count")->data;
  for (size_t i = 0; i < list->count; i++) {
    memcpy(bits + (int64_t)i * places, list->found[i].bits, (size_t)places * sizeof *bits);
    memcpy(&sum[i], &list->found[i].sum, sizeof *sum);
    count[i] = list->found[i].count;
  }
  return QE_OK;
}

qe_status qe_gfb_list_take(qe_gfb_list *list, int32_t places, const qe_tensors *state, const char *file) {
  const qe_named_tensor *bits = qe_tensors_find(state, "gradfreebits.found");
  const qe_named_tensor *sum = qe_tensors_find(state, "gradfreebits.found_sum");
  const qe_named_tensor *count = qe_tensors_find(state, "gradfreebits.found_count");
  bool fit = bits && sum && count && bits->dtype == QE_S32 && sum->dtype == QE_S64 && count->dtype == QE_S64 &&
             bits->rank == 2 && bits->shape[1] == places && sum->bytes == count->bytes &&
             sum->bytes == (size_t)bits->shape[0] * sizeof(int64_t) && bits->shape[0] <= MOST_FOUND;
  if (!fit) return qe_fail(QE_FORMAT, "%s: no fitting list of allocations; not a checkpoint of this run", file);
  QE_TRY(qe_reserve(&list->found, &list->capacity, (size_t)bits->shape[0] + 1, sizeof *list->found));
  for (int64_t i = 0; i < bits->shape[0]; i++) {
    qe_gfb_found found = {.bits = qe_alloc((size_t)places * sizeof(int32_t)), .count = ((int64_t *)count->data)[i]};
    if (!found.bits) return QE_NO_MEMORY;
    memcpy(found.bits, (const int32_t *)bits->data + i * places, (size_t)places * sizeof(int32_t));
    memcpy(&found.sum, (const int64_t *)sum->data + i, sizeof found.sum);
    list->found[list->count++] = found;
    if (found.count < 1) return qe_fail(QE_FORMAT, "%s: an allocation that was tried no time", file);
  }
  return QE_OK;
}

/* ---- the choice ---- */

/* Allocations to compare, each once. */
typedef struct contest {
  int32_t *bits; /* [capacity, places] */
  int32_t count, places;
  qe_trial_score *score;
} contest;

static int32_t find_row(const contest *c, const int32_t *bits) {
  int32_t at = 0;
  while (at < c->count && memcmp(c->bits + (int64_t)at * c->places, bits, (size_t)c->places * sizeof *bits) != 0) at++;
  return at;
}

static void enter(contest *c, const int32_t *bits) {
  int32_t at = find_row(c, bits);
  if (at < c->count) return;
  memcpy(c->bits + (int64_t)at * c->places, bits, (size_t)c->places * sizeof *bits);
  c->count++;
}

static qe_status fill_contest(const qe_gradfreebits *s, const qe_gfb_list *list, contest *c) {
  int64_t most = (int64_t)s->options->confirm + 1;
  c->places = s->map->places;
  c->bits = QE_NEW_ARRAY(int32_t, most * c->places);
  c->score = QE_NEW_ARRAY(qe_trial_score, most);
  if (!c->bits || !c->score) return QE_NO_MEMORY;
  if (qe_budgets_excess(&s->budgets, s->costs, s->bits) <= 0) enter(c, s->bits);
  for (size_t i = 0; i < list->count && i < (size_t)s->options->confirm; i++) enter(c, list->found[i].bits);
  if (c->count > 0) return QE_OK;
  return qe_fail(QE_USAGE, "no allocation within the budgets was met; widen --gfb-budgets, or search longer by "
                           "--gfb-generations");
}

static void write_score(qe_json *json, const qe_gradfreebits *s, const int32_t *bits, const qe_trial_score *score) {
  qe_json_real(json, "loss", score->loss);
  qe_json_real(json, "top1", score->top1);
  qe_json_open_object(json, "costs");
  for (int cost = 0; cost < QE_BIT_COSTS; cost++) {
    double value = qe_bit_cost_of(s->costs, (qe_bit_cost)cost, bits);
    if (value >= 0) qe_json_real(json, qe_bit_cost_name((qe_bit_cost)cost), value);
  }
  qe_json_close(json);
}

static void write_row(qe_json *json, const qe_gradfreebits *s, const int32_t *bits, const qe_trial_score *score) {
  qe_json_open_object(json, NULL);
  qe_json_open_array(json, "bits");
  for (int32_t i = 0; i < s->map->places; i++) qe_json_int(json, NULL, bits[i]);
  qe_json_close(json);
  write_score(json, s, bits, score);
  qe_json_close(json);
}

/* All places of the search at so many bits: what readers compare with. */
static qe_status write_uniform(qe_json *json, const qe_gradfreebits *s, qe_trials *trials, int64_t first,
                               int32_t batches) {
  qe_trial_score score;
  qe_status status = QE_OK;
  int32_t *bits = QE_NEW_ARRAY(int32_t, s->map->places);
  if (!bits) return QE_NO_MEMORY;
  qe_json_open_array(json, "uniform");
  for (int32_t width = s->options->least; status == QE_OK && width <= s->options->most; width++) {
    memcpy(bits, s->bits, (size_t)s->map->places * sizeof *bits);
    for (int32_t i = 0; i < s->variables; i++) {
      int32_t least = s->map->place[s->variable[i]].least;
      bits[s->variable[i]] = width < least ? least : width;
    }
    status = qe_trials_run(trials, bits, 1, first, batches, &score);
    if (status == QE_OK) write_row(json, s, bits, &score);
  }
  qe_json_close(json);
  qe_free(bits);
  return status;
}

static qe_status write_front(qe_json *json, const qe_gradfreebits *s, qe_trials *trials, const qe_gfb_front *front) {
  qe_trial_score score;
  if (front->count == 0) return QE_OK;
  qe_json_open_array(json, "front");
  qe_status status = QE_OK;
  for (int32_t i = 0; status == QE_OK && i < front->count; i++) {
    const int32_t *bits = front->bits + (int64_t)i * s->map->places;
    status = qe_trials_run(trials, bits, 1, front->first, s->options->batches, &score);
    if (status == QE_OK) write_row(json, s, bits, &score);
  }
  qe_json_close(json);
  return status;
}

/* The round as a JSON object, appended to s->history. */
static qe_status write_history(qe_gradfreebits *s, qe_trials *trials, const contest *c, const qe_gfb_front *front,
                               int32_t best, int round, int64_t first) {
  qe_json json = {0};
  char *text = NULL, *history = NULL;
  int32_t batches =
      s->options->batches < s->options->confirm_batches ? s->options->batches : s->options->confirm_batches;
  qe_json_open_object(&json, NULL);
  qe_json_int(&json, "round", round);
  qe_json_int(&json, "images", (int64_t)s->options->confirm_batches * s->options->batch);
  qe_json_int(&json, "chosen", best);
  qe_json_open_array(&json, "compared");
  for (int32_t i = 0; i < c->count; i++) write_row(&json, s, c->bits + (int64_t)i * c->places, &c->score[i]);
  qe_json_close(&json);
  qe_status status = write_uniform(&json, s, trials, first, batches);
  if (status == QE_OK) status = write_front(&json, s, trials, front);
  qe_json_close(&json);
  if (status == QE_OK) status = qe_json_finish(&json, &text, NULL);
  qe_json_drop(&json);
  if (status == QE_OK) history = qe_format("%s%s%s", s->history, *s->history ? "," : "", text);
  qe_free(text);
  if (!history) return status == QE_OK ? QE_NO_MEMORY : status;
  qe_free(s->history);
  s->history = history;
  return QE_OK;
}

static void tell(const qe_gradfreebits *s, const contest *c, int32_t best, int round) {
  const int32_t *bits = c->bits + (int64_t)best * c->places;
  int32_t before = find_row(c, s->bits), changed = 0;
  for (int32_t i = 0; i < c->places; i++) changed += bits[i] != s->bits[i];
  char was[64] = "";
  if (before < c->count) snprintf(was, sizeof was, ", before the search %.4f", c->score[before].loss);
  qe_run_note(s->setting->run, "round %d: loss %.4f%s; %d of %d bits changed; mean weight bits %.3f, code bits %.3f",
              round, c->score[best].loss, was, changed, s->variables,
              qe_bit_cost_of(s->costs, QE_BIT_COST_WEIGHT_BITS, bits),
              qe_bit_cost_of(s->costs, QE_BIT_COST_ACT_BITS, bits));
}

static qe_status compare(qe_gradfreebits *s, qe_trials *trials, contest *c, const qe_gfb_front *front, int round) {
  int32_t best = 0, batches = s->options->confirm_batches;
  int64_t first = confirm_first + (int64_t)round * batches;
  QE_TRY(qe_trials_run(trials, c->bits, c->count, first, batches, c->score));
  for (int32_t i = 1; i < c->count; i++)
    if (c->score[i].loss < c->score[best].loss) best = i;
  QE_TRY(write_history(s, trials, c, front, best, round, first));
  tell(s, c, best, round);
  memcpy(s->bits, c->bits + (int64_t)best * c->places, (size_t)c->places * sizeof *s->bits);
  return QE_OK;
}

qe_status qe_gfb_choose(qe_gradfreebits *s, qe_trials *trials, const qe_gfb_list *list, const qe_gfb_front *front,
                        int round) {
  contest c = {0};
  qe_status status = fill_contest(s, list, &c);
  if (status == QE_OK) status = compare(s, trials, &c, front, round);
  qe_free(c.bits);
  qe_free(c.score);
  return status;
}
