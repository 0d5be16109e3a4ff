/* What the tests of model files and run folders share: a data set, a small model, a folder. */
#ifndef QE_TESTS_SAVED_H
#define QE_TESTS_SAVED_H

#include "core/base/file.h"
#include "tests/fixture.h"

static qe_dataset *data;
static char folder[FIXTURE_PATH];

static inline int open_all(void **state) {
  data = small_data(8, 3, 4, 64, 20);
  folder_new(folder);
  return fixture_open(state);
}
static inline int close_all(void **state) {
  qe_dataset_free(data);
  folder_remove(folder);
  return fixture_close(state);
}

/* "folder/name" in static memory. */
static inline const char *path_of(const char *name) {
  static char path[4][2 * FIXTURE_PATH];
  static int next;
  next = (next + 1) % 4;
  snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
  return path[next];
}

static inline qe_model_spec small_spec(int bits) {
  qe_model_spec spec = qe_model_default("mlp");
  spec.height = spec.width = 8;
  spec.classes = 4;
  spec.bits.weights = spec.bits.activations = bits;
  return spec;
}

static inline qe_model *new_model(const qe_model_spec *spec, uint64_t seed) {
  qe_model *model;
  OK(qe_model_new(spec, seed, &model));
  return model;
}

static inline void save(const qe_model *model, const char *name) {
  qe_tensors *tensors = qe_tensors_new();
  assert_non_null(tensors);
  OK(qe_model_give(model, tensors));
  OK(qe_tensors_write(tensors, path_of(name)));
  qe_tensors_free(tensors);
}

static inline void assert_same_files(const char *first, const char *second) {
  char *a, *b;
  size_t a_bytes, b_bytes;
  OK(qe_file_read(first, 1 << 26, &a, &a_bytes));
  OK(qe_file_read(second, 1 << 26, &b, &b_bytes));
  assert_int_equal(a_bytes, b_bytes);
  assert_memory_equal(a, b, a_bytes);
  qe_free(a);
  qe_free(b);
}

#endif
