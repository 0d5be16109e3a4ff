/* What a GradFreeBits run keeps between its phases, and what it leaves for others to read. */
#include "core/methods/gradfreebits_parts.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/json.h"

#include <stdio.h>
#include <string.h>

const char *qe_gfb_search_phase(const qe_gradfreebits *s, int round) {
  return s->phases[2 * round + 1];
}

const char *qe_gfb_train_phase(const qe_gradfreebits *s, int round) {
  return s->phases[2 * round + 2];
}

qe_status qe_gfb_set_bits(qe_gradfreebits *s, const qe_step_bank *bank) {
  char *text = NULL;
  qe_model *model = NULL;
  qe_bits bits = s->model->spec.bits;
  QE_TRY(qe_bit_map_text(s->map, s->bits, &text));
  bits.layers = text;
  qe_status status = qe_model_requantize(s->model, &bits, &model);
  qe_free(text);
  QE_TRY(status);
  if (bank) qe_step_bank_put(bank, model);
  qe_model_free(s->model);
  s->model = model;
  return QE_OK;
}

/* ---- as tensors ---- */

qe_status qe_gfb_give(const qe_gradfreebits *s, qe_tensors *state) {
  const int64_t places = s->map->places;
  QE_TRY(qe_tensors_add(state, "gradfreebits.bits", QE_S32, 1, &places, s->bits));
  QE_TRY(qe_tensors_set_meta(state, "gradfreebits.rounds", s->history));
  return qe_step_bank_give(s->bank, state);
}

qe_status qe_gfb_take(qe_gradfreebits *s, const qe_tensors *state, const char *file) {
  const qe_named_tensor *bits = qe_tensors_find(state, "gradfreebits.bits");
  const char *history = qe_tensors_get_meta(state, "gradfreebits.rounds");
  if (!bits || !history || bits->dtype != QE_S32 || bits->bytes != (size_t)s->map->places * sizeof *s->bits)
    return qe_fail(QE_FORMAT, "%s holds no allocation of this network; resume with the options of the run", file);
  const int32_t *value = bits->data;
  for (int32_t i = 0; i < s->map->places; i++)
    if (value[i] != s->map->place[i].bits && (value[i] < 1 || value[i] > 8))
      return qe_fail(QE_FORMAT, "%s: %d bits for %s", file, value[i], s->map->place[i].layer);
  char *copy = qe_strdup(history);
  if (!copy) return QE_NO_MEMORY;
  qe_free(s->history);
  s->history = copy;
  memcpy(s->bits, value, bits->bytes);
  QE_TRY(qe_step_bank_take(s->bank, state, file));
  return qe_gfb_set_bits(s, s->bank);
}

/* ---- files of rounds ---- */

static qe_status round_path(const qe_gradfreebits *s, int round, char **path) {
  char name[48];
  snprintf(name, sizeof name, "round-%02d.safetensors", round);
  return qe_run_path(s->setting->run, name, path);
}

/* The allocation's steps are the model's, so that its training finds them here. */
static qe_status give_round(const qe_gradfreebits *s, qe_tensors *state) {
  QE_TRY(qe_tensors_set_meta(state, "format", "qevo-gpu gradfreebits round 1"));
  return qe_gfb_give(s, state);
}

qe_status qe_gfb_keep_round(const qe_gradfreebits *s, int round) {
  char *path;
  QE_TRY(round_path(s, round, &path));
  if (!path) return QE_OK;
  qe_tensors *state = qe_tensors_new();
  qe_status status = state ? give_round(s, state) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_tensors_write(state, path);
  qe_tensors_free(state);
  qe_free(path);
  return status;
}

qe_status qe_gfb_read_round(qe_gradfreebits *s, int round) {
  char *path;
  qe_tensors *state = NULL;
  QE_TRY(round_path(s, round, &path));
  if (!path) return qe_fail(QE_USAGE, "a run without a folder cannot be resumed");
  qe_status status = qe_tensors_read(path, &state);
  if (status == QE_OK) status = qe_gfb_take(s, state, path);
  qe_tensors_free(state);
  qe_free(path);
  return status;
}

/* ---- for readers ---- */

static qe_status write_bits(const qe_gradfreebits *s, int round) {
  char *path, comment[96];
  QE_TRY(qe_run_path(s->setting->run, QE_GFB_BITS_FILE, &path));
  if (!path) return QE_OK;
  snprintf(comment, sizeof comment, "gradfreebits, round %d of %d", round, s->options->rounds);
  qe_status status = qe_bits_file_write(path, s->map, &s->setting->spec, s->bits, comment);
  qe_free(path);
  return status;
}

static void write_places(qe_json *json, const qe_gradfreebits *s) {
  qe_json_open_array(json, "places");
  for (int32_t i = 0; i < s->map->places; i++) {
    const qe_bit_place *place = &s->map->place[i];
    const char letter[2] = {place->letter, 0};
    bool searched = false;
    for (int32_t k = 0; k < s->variables; k++) searched |= s->variable[k] == i;
    qe_json_open_object(json, NULL);
    qe_json_text(json, "layer", place->layer);
    qe_json_text(json, "of", letter);
    qe_json_int(json, "count", place->count);
    qe_json_bool(json, "searched", searched);
    qe_json_close(json);
  }
  qe_json_close(json);
}

static void write_budgets(qe_json *json, const qe_gradfreebits *s) {
  qe_json_open_array(json, "budgets");
  for (int32_t i = 0; i < s->budgets.count; i++) {
    qe_json_open_object(json, NULL);
    qe_json_text(json, "cost", qe_bit_cost_name(s->budgets.budget[i].cost));
    qe_json_real(json, "limit", s->budgets.budget[i].limit);
    qe_json_close(json);
  }
  qe_json_close(json);
}

/* {"places":[…],"budgets":[…],"rounds":[…]}, the rounds being s->history. */
static qe_status rounds_text(const qe_gradfreebits *s, char **text) {
  qe_json json = {0};
  char *head = NULL;
  qe_json_open_object(&json, NULL);
  write_places(&json, s);
  write_budgets(&json, s);
  qe_json_close(&json);
  QE_TRY(qe_json_finish(&json, &head, NULL));
  head[strlen(head) - 1] = 0; /* its last brace comes after the rounds */
  *text = qe_format("%s,\"rounds\":[%s]}\n", head, s->history);
  qe_free(head);
  return *text ? QE_OK : QE_NO_MEMORY;
}

qe_status qe_gfb_write_files(const qe_gradfreebits *s, int round) {
  char *path, *text = NULL;
  QE_TRY(write_bits(s, round));
  QE_TRY(qe_run_path(s->setting->run, QE_GFB_ROUNDS_FILE, &path));
  if (!path) return QE_OK;
  qe_status status = rounds_text(s, &text);
  if (status == QE_OK) status = qe_file_write(path, text, strlen(text));
  qe_free(text);
  qe_free(path);
  return status;
}
