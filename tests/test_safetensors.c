/* Tests of core/base/safetensors: round trip, bytes of the format, damaged and hostile files, failing memory. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/base/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/qevo-test-safetensors-XXXXXX";
static char path[256];

static int make_folder(void **state) {
  (void)state;
  if (!mkdtemp(folder)) return -1;
  snprintf(path, sizeof path, "%s/net.safetensors", folder);
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  char command[300];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  return system(command);
}

static const float weights[6] = {1, -2.5f, 3, 0, 1e-30f, -7};
static const int64_t steps[1] = {INT64_MIN};

/* Every type, rank 0 and 8, an empty tensor, names and texts that need escapes; types out of the order of alignment. */
static qe_tensors *example(void) {
  static const struct {
    const char *name;
    qe_dtype dtype;
    int rank;
    int64_t shape[QE_MAX_RANK];
    const void *data;
  } rows[] = {
      {"codes", QE_S8, 1, {3}, "\x01\x80\x7f"},
      {"stage1.conv.w", QE_F32, 2, {2, 3}, weights},
      {"image", QE_U8, 8, {1, 1, 1, 5, 1, 1, 1, 1}, "abcde"},
      {"step", QE_S64, 0, {0}, steps},
      {"empty", QE_S32, 2, {0, 7}, NULL},
      {"\"quoted\\\n\xC3\xA9\"", QE_S16, 1, {2}, "wxyz"},
      {"zeros", QE_S32, 1, {2}, NULL},
  };
  qe_tensors *list = qe_tensors_new();
  qe_status status = list ? QE_OK : QE_NO_MEMORY;
  for (size_t i = 0; i < sizeof rows / sizeof *rows && status == QE_OK; i++)
    status = qe_tensors_add(list, rows[i].name, rows[i].dtype, rows[i].rank, rows[i].shape, rows[i].data);
  if (status == QE_OK) status = qe_tensors_set_meta(list, "model", "resnet20");
  if (status == QE_OK) status = qe_tensors_set_meta(list, "note", "a \"b\"\t\\");
  if (status == QE_OK) status = qe_tensors_set_meta(list, "model", "resnet32");
  if (status == QE_OK) return list;
  qe_tensors_free(list);
  return NULL;
}

static void assert_same_lists(const qe_tensors *a, const qe_tensors *b) {
  assert_int_equal(a->count, b->count);
  for (size_t i = 0; i < a->count; i++) {
    const qe_named_tensor *x = &a->items[i], *y = &b->items[i];
    assert_string_equal(x->name, y->name);
    assert_int_equal(x->dtype, y->dtype);
    assert_int_equal(x->rank, y->rank);
    assert_memory_equal(x->shape, y->shape, sizeof x->shape);
    assert_int_equal(x->bytes, y->bytes);
    if (x->bytes) assert_memory_equal(x->data, y->data, x->bytes);
  }
  assert_int_equal(a->meta_count, b->meta_count);
  for (size_t i = 0; i < a->meta_count; i++) {
    assert_string_equal(a->meta[i].key, b->meta[i].key);
    assert_string_equal(a->meta[i].value, b->meta[i].value);
  }
}

static void test_round_trip(void **state) {
  (void)state;
  qe_tensors *list = example(), *again;
  assert_non_null(list);
  assert_int_equal(qe_tensors_write(list, path), QE_OK);
  assert_int_equal(qe_tensors_read(path, &again), QE_OK);
  assert_same_lists(list, again);
  assert_string_equal(qe_tensors_get_meta(again, "model"), "resnet32");
  assert_null(qe_tensors_get_meta(again, "mode"));
  assert_memory_equal(qe_tensors_find(again, "stage1.conv.w")->data, weights, sizeof weights);
  assert_int_equal(qe_tensors_find(again, "zeros")->bytes, 8);
  assert_null(qe_tensors_find(again, "stage1"));
  qe_tensors_free(again);
  qe_tensors_free(list);
}

static void test_empty_list(void **state) {
  (void)state;
  qe_tensors *list = qe_tensors_new(), *again;
  assert_int_equal(qe_tensors_write(list, path), QE_OK);
  assert_int_equal(qe_tensors_read(path, &again), QE_OK);
  assert_same_lists(list, again);
  qe_tensors_free(again);
  qe_tensors_free(list);
  qe_tensors_free(NULL);
}

static void test_bytes_are_the_formats_and_stable(void **state) {
  (void)state;
  static const char expected[] = "\x88\0\0\0\0\0\0\0{\"__metadata__\":{\"k\":\"v\"},"
                                 "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]},"
                                 "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}      \0\0\x80?xy";
  float one = 1;
  char *data;
  size_t bytes;
  qe_tensors *list = qe_tensors_new();
  assert_int_equal(qe_tensors_add(list, "b", QE_U8, 1, (int64_t[]){2}, "xy"), QE_OK);
  assert_int_equal(qe_tensors_add(list, "a", QE_F32, 0, NULL, &one), QE_OK);
  assert_int_equal(qe_tensors_set_meta(list, "k", "v"), QE_OK);
  for (int round = 0; round < 2; round++) {
    assert_int_equal(qe_tensors_write(list, path), QE_OK);
    assert_int_equal(qe_file_read(path, 10000, &data, &bytes), QE_OK);
    assert_int_equal(bytes, sizeof expected - 1);
    assert_memory_equal(data, expected, bytes);
    assert_int_equal((uint8_t)data[0] % 8, 0); /* the data starts at a multiple of 8 */
    qe_free(data);
    qe_tensors_free(list);
    assert_int_equal(qe_tensors_read(path, &list), QE_OK); /* read and written again: the same bytes */
  }
  qe_tensors_free(list);
}

static void test_add_refuses(void **state) {
  (void)state;
  qe_tensors *list = qe_tensors_new();
  int64_t shape[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  assert_int_equal(qe_tensors_add(list, "a", QE_F32, 1, shape, NULL), QE_OK);
  assert_int_equal(qe_tensors_add(list, "a", QE_F32, 1, shape, NULL), QE_USAGE);
  assert_non_null(strstr(qe_message(), "\"a\": the name is taken"));
  assert_int_equal(qe_tensors_add(list, "__metadata__", QE_F32, 1, shape, NULL), QE_USAGE);
  assert_int_equal(qe_tensors_add(list, "b", QE_F32, 9, shape, NULL), QE_USAGE);
  assert_int_equal(qe_tensors_add(list, "b", QE_F32, -1, shape, NULL), QE_USAGE);
  assert_int_equal(qe_tensors_add(list, "b", QE_F32, 1, (int64_t[]){-1}, NULL), QE_USAGE);
  assert_int_equal(qe_tensors_add(list, "b", QE_F32, 2, (int64_t[]){INT64_MAX, 2}, NULL), QE_USAGE);
  assert_int_equal(qe_tensors_add(list, "b", QE_DTYPES, 1, shape, NULL), QE_USAGE);
  assert_int_equal(list->count, 1);
  qe_tensors_free(list);
}

/* ---- damaged files ---- */

/* A file of the header (its length `length`, or its own when negative) and `data` zero bytes. */
static void write_raw(const char *header, long long length, size_t data) {
  static const char zeros[64];
  uint64_t stated = length < 0 ? strlen(header) : (uint64_t)length;
  qe_span spans[] = {{&stated, sizeof stated}, {header, strlen(header)}, {zeros, data}};
  assert_int_equal(qe_file_write_spans(path, spans, 3), QE_OK);
}

#define TENSOR(name, type, shape, offsets)                                                                             \
  "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define A(shape, offsets) "{" TENSOR("a", "F32", shape, offsets) "}"

static const struct {
  const char *reason; /* must stand in the message */
  const char *header;
  long long length;
  size_t data;
} damaged[] = {
    {"its header is longer than the file", "{}", 3, 0},
    {"its header is longer than the file", "{}", INT64_MAX, 0},
    {"its header is longer than the file", A("[1]", "[0,4]"), 1 << 30, 4},
    {"its header is not JSON", "", -1, 0},
    {"its header is not JSON", "{\"a\":", -1, 0},
    {"its header is not JSON", "{} {}", -1, 0},
    {"its header is not JSON", "{\"a\xff", -1, 0},
    {"its header is not a JSON object", "[]", -1, 0},
    {"its header is not a JSON object", "7", -1, 0},
    {"its entry is not an object", "{\"a\":1}", -1, 0},
    {"\"shape\" or \"data_offsets\" is missing", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", -1, 4},
    {"\"dtype\", \"shape\" or", "{\"a\":{}}", -1, 0},
    {"a type other than", "{" TENSOR("a", "BF16", "[1]", "[0,2]") "}", -1, 2},
    {"a type other than", "{" TENSOR("a", "", "[1]", "[0,2]") "}", -1, 2},
    {"\"dtype\" is not a text", "{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", -1, 4},
    {"\"shape\" is not a list", A("1", "[0,4]"), -1, 4},
    {"a size that is not a whole number", A("[-1]", "[0,4]"), -1, 4},
    {"a size that is not a whole number", A("[1.5]", "[0,6]"), -1, 6},
    {"a size that is not a whole number", A("[1e300]", "[0,4]"), -1, 4},
    {"a size that is not a whole number", A("[9007199254740994]", "[0,4]"), -1, 4},
    {"a size that is not a whole number", A("[\"1\"]", "[0,4]"), -1, 4},
    {"more than 8 axes", A("[1,1,1,1,1,1,1,1,1]", "[0,4]"), -1, 4},
    {"its size overflows", A("[4294967296,4294967296]", "[0,4]"), -1, 4},
    {"its size overflows", A("[9007199254740992,256,0]", "[0,0]"), -1, 0},
    {"do not give the number of its bytes", A("[2]", "[0,4]"), -1, 4},
    {"do not give the number of its bytes", A("[0]", "[0,4]"), -1, 4},
    {"do not give the number of its bytes", A("[]", "[0,0]"), -1, 0},
    {"list of two whole numbers", A("[1]", "[0]"), -1, 4},
    {"list of two whole numbers", A("[1]", "[0,4,4]"), -1, 4},
    {"list of two whole numbers", A("[1]", "[-4,0]"), -1, 4},
    {"list of two whole numbers", A("[1]", "{\"a\":0,\"b\":\"4\"}"), -1, 4},
    {"ends before it begins", A("[1]", "[4,0]"), -1, 4},
    {"beyond the end of the file", A("[2]", "[0,8]"), -1, 4},
    {"beyond the end of the file", A("[1]", "[9007199254740988,9007199254740992]"), -1, 4},
    {"overlaps", "{" TENSOR("a", "F32", "[2]", "[0,8]") "," TENSOR("b", "F32", "[1]", "[4,8]") "}", -1, 8},
    {"overlaps", "{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]", "[0,4]") "}", -1, 4},
    {"a gap before its data", A("[1]", "[4,8]"), -1, 8},
    {"a gap before", "{" TENSOR("a", "U8", "[1]", "[0,1]") "," TENSOR("b", "F32", "[1]", "[4,8]") "}", -1, 8},
    {"bytes after the last tensor", A("[1]", "[0,4]"), -1, 5},
    {"bytes after the last tensor", "{}", -1, 1},
    {"the name is given twice", "{" TENSOR("a", "U8", "[1]", "[0,1]") "," TENSOR("a", "U8", "[1]", "[1,2]") "}", -1, 2},
    {"a key of its entry is given twice",
     "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", -1, 1},
    {"not an object", "{\"__metadata__\":[]}", -1, 0},
    {"is not a text", "{\"__metadata__\":{\"a\":1}}", -1, 0},
    {"key is given twice", "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", -1, 0},
    {"\"__metadata__\" is given twice", "{\"__metadata__\":{},\"__metadata__\":{}}", -1, 0},
    {"tensor \"??x\":", "{\"\\n\\u001bx\":1}", -1, 0}, /* no control characters in messages */
};

static void assert_refused(const char *reason) {
  qe_tensors *list = (qe_tensors *)1;
  qe_status status = qe_tensors_read(path, &list);
  if (status != QE_FORMAT || !strstr(qe_message(), reason) || !strstr(qe_message(), path))
    fail_msg("%s, message: %s; expected: %s", qe_status_name(status), qe_message(), reason);
  assert_null(list);
}

static void test_damaged_files(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
    write_raw(damaged[i].header, damaged[i].length, damaged[i].data);
    assert_refused(damaged[i].reason);
  }
  assert_int_equal(qe_file_write(path, "1234567", 7), QE_OK);
  assert_refused("shorter than 8 bytes");
  assert_int_equal(qe_file_write(path, "", 0), QE_OK);
  assert_refused("shorter than 8 bytes");
  assert_int_equal(unlink(path), 0);
  qe_tensors *list;
  assert_int_equal(qe_tensors_read(path, &list), QE_NOT_FOUND);
}

/* What others write and the format allows. */
static void test_foreign_files(void **state) {
  (void)state;
  qe_tensors *list;
  write_raw("{ \"b\" : {\"data_offsets\":[4,8], \"shape\":[1], \"dtype\":\"I32\", \"more\":{}},"
            "\"a\":{\"dtype\":\"I16\",\"shape\":[2,1],\"data_offsets\":[0,4]}} \n ",
            -1, 8);
  assert_int_equal(qe_tensors_read(path, &list), QE_OK);
  assert_int_equal(list->count, 2);
  assert_int_equal(qe_tensors_find(list, "a")->dtype, QE_S16);
  qe_tensors_free(list);
}

/* Deep nesting must not use up the stack. */
static void test_deep_header(void **state) {
  (void)state;
  size_t depth = 200000;
  char *header = qe_alloc(depth + 1);
  memset(header, '[', depth);
  header[depth] = 0;
  write_raw(header, -1, 0);
  qe_free(header);
  assert_refused("its header is not JSON");
}

static void test_random_damage(void **state) {
  (void)state;
  qe_tensors *list = example();
  char *data;
  size_t bytes;
  int read = 0, refused = 0;
  assert_int_equal(qe_tensors_write(list, path), QE_OK);
  assert_int_equal(qe_file_read(path, 10000, &data, &bytes), QE_OK);
  qe_tensors_free(list);
  FILE *file = fopen(path, "wb"); /* plain writes: nothing here needs to survive a crash */
  assert_non_null(file);
  setbuf(file, NULL);
  for (uint64_t round = 0; round < 4000; round++) {
    qe_philox draw = qe_philox_draw(7, QE_STREAM_TEST, round);
    uint32_t flips = 1 + qe_below(draw.word[0], 3), length = (uint32_t)bytes;
    char *copy = qe_alloc(bytes);
    memcpy(copy, data, bytes);
    for (uint32_t flip = 0; flip < flips; flip++)
      copy[qe_below(draw.word[1 + flip], (uint32_t)bytes)] ^= (char)(1 << (draw.word[0] >> (4 * flip) & 7));
    if ((draw.word[0] & 15) == 0) length = qe_below(draw.word[3], length);
    assert_int_equal(ftruncate(fileno(file), 0), 0);
    rewind(file);
    assert_int_equal(fwrite(copy, 1, length, file), length);
    qe_free(copy);
    qe_status status = qe_tensors_read(path, &list);
    assert_true(status == QE_OK || status == QE_FORMAT);
    read += status == QE_OK;
    refused += status == QE_FORMAT;
    qe_tensors_free(list);
  }
  fclose(file);
  qe_free(data);
  assert_true(read > 100 && refused > 1000); /* both ways were taken */
}

/* ---- failing memory ---- */

static void test_survives_failed_allocations(void **state) {
  (void)state;
  qe_tensors *list = example(), *again = NULL, *old;
  int failures = 0;
  assert_int_equal(qe_tensors_write(list, path), QE_OK);
  for (int64_t nth = 1; !again; nth++) {
    qe_alloc_fail_nth(nth);
    qe_status status = qe_tensors_read(path, &again);
    qe_alloc_fail_nth(0);
    assert_int_equal(status, again ? QE_OK : QE_NO_MEMORY);
    failures += !again;
  }
  assert_true(failures > 20);
  assert_same_lists(list, again);
  qe_tensors_free(list);

  list = qe_tensors_new();
  qe_status status = QE_NO_MEMORY;
  for (int64_t nth = 1; status != QE_OK; nth++) {
    qe_alloc_fail_nth(nth);
    status = qe_tensors_write(list, path);
    qe_alloc_fail_nth(0);
    if (status == QE_OK) break;
    assert_int_equal(status, QE_NO_MEMORY);
    assert_int_equal(qe_tensors_read(path, &old), QE_OK); /* the old file is whole */
    assert_same_lists(again, old);
    qe_tensors_free(old);
  }
  qe_tensors_free(list);
  qe_tensors_free(again);

  failures = 0;
  list = NULL;
  for (int64_t nth = 1; !list; nth++) {
    qe_alloc_fail_nth(nth);
    list = example();
    qe_alloc_fail_nth(0);
    failures += !list;
  }
  assert_true(failures > 15);
  qe_tensors_free(list);
}

static void *read_often(void *argument) {
  const char *file = argument;
  qe_status status = QE_OK;
  for (int round = 0; round < 50 && status == QE_OK; round++) {
    qe_tensors *list;
    status = qe_tensors_read(file, &list);
    qe_tensors_free(list);
  }
  return status == QE_OK ? argument : NULL;
}

static void test_threads(void **state) {
  (void)state;
  pthread_t threads[4];
  qe_tensors *list = example();
  assert_int_equal(qe_tensors_write(list, path), QE_OK);
  qe_tensors_free(list);
  for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, read_often, path), 0);
  for (int i = 0; i < 4; i++) {
    void *result;
    assert_int_equal(pthread_join(threads[i], &result), 0);
    assert_non_null(result);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_round_trip),
      cmocka_unit_test(test_empty_list),
      cmocka_unit_test(test_bytes_are_the_formats_and_stable),
      cmocka_unit_test(test_add_refuses),
      cmocka_unit_test(test_damaged_files),
      cmocka_unit_test(test_foreign_files),
      cmocka_unit_test(test_deep_header),
      cmocka_unit_test(test_random_damage),
      cmocka_unit_test(test_survives_failed_allocations),
      cmocka_unit_test(test_threads),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
