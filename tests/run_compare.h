/* Run folders compared: what a resumed run left with what the undisturbed one did, but for what the clock says. */
#ifndef QE_TESTS_RUN_COMPARE_H
#define QE_TESTS_RUN_COMPARE_H

#include "tests/events.h"
#include "tests/saved.h"

#include <cjson/cJSON.h>

static inline const char *in(const char *run, const char *file) {
  static char path[4][2 * FIXTURE_PATH + 64];
  static int next;
  next = (next + 1) % 4;
  snprintf(path[next], sizeof path[next], "%s/%s", run, file);
  return path[next];
}

/* Lines with what depends on the clock taken out. */
static inline cJSON *read_metrics(const char *run) {
  char *text;
  cJSON *lines = cJSON_CreateArray();
  OK(qe_file_read(in(run, "metrics.jsonl"), 1 << 24, &text, NULL));
  for (char *at = text, *end; *at; at = end + 1) {
    end = strchr(at, '\n');
    if (!end) fail_msg("%s: a torn line: %s", run, at);
    *end = 0;
    cJSON *line = cJSON_Parse(at);
    if (!cJSON_IsObject(line)) fail_msg("%s: no JSON: %s", run, at);
    cJSON_DeleteItemFromObject(line, "seconds");
    cJSON_DeleteItemFromObject(line, "images_per_second");
    cJSON_AddItemToArray(lines, line);
  }
  qe_free(text);
  return lines;
}

static inline void compare_metrics(const char *a, const char *b) {
  cJSON *left = read_metrics(a), *right = read_metrics(b);
  assert_true(cJSON_GetArraySize(left) > 4);
  if (!cJSON_Compare(left, right, true)) {
    char *texts[2] = {cJSON_PrintUnformatted(left), cJSON_PrintUnformatted(right)};
    fail_msg("metrics differ:\n%s\n%s", texts[0], texts[1]);
  }
  cJSON_Delete(left);
  cJSON_Delete(right);
}

/* Metadata that depend on the clock: lengths of logs that hold times, and the checksum over them. */
static inline bool is_timed(const char *key) {
  static const char *const keys[] = {"metrics_bytes", "events_file", "events_bytes", "crc32c", "seconds"};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    if (strcmp(keys[i], key) == 0) return true;
  return false;
}

static inline void compare_checkpoints(const char *a, const char *b) {
  qe_tensors *left, *right;
  OK(qe_tensors_read(a, &left));
  OK(qe_tensors_read(b, &right));
  assert_int_equal(left->count, right->count);
  for (size_t i = 0; i < left->count; i++) {
    assert_string_equal(left->items[i].name, right->items[i].name);
    assert_int_equal(left->items[i].bytes, right->items[i].bytes);
    if (memcmp(left->items[i].data, right->items[i].data, left->items[i].bytes) != 0)
      fail_msg("%s and %s differ in %s", a, b, left->items[i].name);
  }
  assert_int_equal(left->meta_count, right->meta_count);
  for (size_t i = 0; i < left->meta_count; i++) {
    const char *value = qe_tensors_get_meta(right, left->meta[i].key);
    if (!value || (!is_timed(left->meta[i].key) && strcmp(left->meta[i].value, value) != 0))
      fail_msg("%s and %s differ in %s: %s, %s", a, b, left->meta[i].key, left->meta[i].value, value ? value : "none");
  }
  qe_tensors_free(left);
  qe_tensors_free(right);
}

/* The same steps in the same order, none twice. */
static inline void compare_events(const char *a, const char *b) {
  event_list *left = read_events(a), *right = read_events(b);
  assert_true(left->scalars > 10 && left->histograms > 2);
  assert_int_equal(left->scalars, right->scalars);
  for (size_t i = 0; i < left->scalars; i++) {
    const event_scalar *l = &left->scalar[i], *r = &right->scalar[i];
    assert_string_equal(l->tag, r->tag);
    if (l->step != r->step)
      fail_msg("%s is of step %lld, must be %lld", r->tag, (long long)r->step, (long long)l->step);
    if (strcmp(l->tag, "images_per_second") != 0) assert_true(l->value == r->value);
  }
  free(left);
  free(right);
}

static const char *const file_list[] = {"config.yaml",
                                        "last.safetensors",
                                        "best.safetensors",
                                        "start.safetensors",
                                        "checkpoint.safetensors",
                                        "checkpoint-1.safetensors",
                                        "metrics.jsonl",
                                        "checkpoint-2.safetensors",
                                        "checkpoint.new.safetensors",
                                        "teacher.safetensors",
                                        "checkpoint.damaged.safetensors",
                                        "stage-w8a8.safetensors",
                                        "stage-w4a4.safetensors",
                                        "bits.txt",
                                        "rounds.json",
                                        "round-01.safetensors",
                                        "round-02.safetensors",
                                        "capture-01.safetensors",
                                        "capture-02.safetensors",
                                        "ema.safetensors",
                                        "average.safetensors",
                                        "average-wide.safetensors"};

/* `damaged`: a checkpoint was set aside on the way. */
static inline void compare_runs(const char *whole, const char *run, bool damaged) {
  for (size_t i = 0; i < sizeof file_list / sizeof *file_list; i++) {
    const char *file = file_list[i];
    bool wanted = qe_file_exists(in(whole, file)) || (damaged && strstr(file, "damaged"));
    if (qe_file_exists(in(run, file)) != wanted) fail_msg("%s/%s: %s", run, file, wanted ? "missing" : "left over");
    if (!wanted || strstr(file, "damaged") || strstr(file, ".jsonl")) continue;
    if (strncmp(file, "checkpoint", 10) == 0)
      compare_checkpoints(in(whole, file), in(run, file));
    else
      assert_same_files(in(whole, file), in(run, file));
  }
  compare_metrics(whole, run);
  compare_events(whole, run);
}

static inline void clear(const char *run) {
  if (qe_folder_exists(run)) folder_remove(run);
}

#endif
