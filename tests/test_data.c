/* Data sets: look-up, the CIFAR-10 reader and what it refuses, the built-in subset, split and shuffle. */
#define _GNU_SOURCE /* nftw */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/data/dataset.h"
#include "core/data/split.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIDE = 32, PLANE = SIDE * SIDE, IMAGE = 3 * PLANE, RECORD = 1 + IMAGE, FILES = 6 };
static const char *const names[FILES] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                         "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"};

static char root[64]; /* a new folder for each test: HOME is root/home, QEVO_DATA_DIR is unset */

/* ---- what the tests use ---- */

/* A path below root, in one of four buffers in turn. */
static const char *at(const char *below) {
  static char paths[4][256];
  static int turn;
  char *path = paths[turn++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", root, below);
  return path;
}

static int set_up(void **state) {
  (void)state;
  strcpy(root, "/tmp/qevo-test-data-XXXXXX");
  if (!mkdtemp(root)) return -1;
  return setenv("HOME", at("home"), 1) || unsetenv("QEVO_DATA_DIR");
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk) {
  (void)info, (void)kind, (void)walk;
  return remove(path);
}

static int tear_down(void **state) {
  (void)state;
  qe_alloc_fail_nth(0);
  return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* The byte of a synthetic image: differs with file, record, channel, row and column. */
static uint8_t pattern(int file, int record, int channel, int y, int x) {
  return (uint8_t)(file * 101 + record * 53 + channel * 85 + y * 7 + x * 3 + (x * y) % 11);
}

static int label_of(int file, int record) {
  return (file * 3 + record) % 10;
}

/* Batch files of `records` records in root/`folder`, which is made. */
static void write_set(const char *folder, int records) {
  assert_int_equal(qe_make_folders(at(folder)), QE_OK);
  for (int file = 0; file < FILES; file++) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", at(folder), names[file]);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    for (int record = 0; record < records; record++) {
      fputc(label_of(file, record), out);
      for (int channel = 0; channel < 3; channel++)
        for (int y = 0; y < SIDE; y++)
          for (int x = 0; x < SIDE; x++) fputc(pattern(file, record, channel, y, x), out);
    }
    assert_int_equal(fclose(out), 0);
  }
}

static void overwrite_byte(const char *path, long offset, int byte) {
  FILE *file = fopen(path, "r+b");
  assert_non_null(file);
  assert_int_equal(fseek(file, offset, SEEK_SET), 0);
  fputc(byte, file);
  assert_int_equal(fclose(file), 0);
}

static uint64_t fnv1a(const void *data, size_t bytes) {
  const uint8_t *byte = data;
  uint64_t value = 0xCBF29CE484222325u;
  for (size_t i = 0; i < bytes; i++) value = (value ^ byte[i]) * 0x100000001B3u;
  return value;
}

/* Opening fails with `status` and a message that holds each of the texts up to the NULL. */
static void open_fails(const char *name, const char *data_dir, qe_status status, ...) {
  qe_dataset *dataset = NULL;
  assert_int_equal(qe_dataset_open(name, data_dir, &dataset), status);
  assert_null(dataset);
  va_list texts;
  va_start(texts, status);
  for (const char *text = va_arg(texts, const char *); text; text = va_arg(texts, const char *))
    if (!strstr(qe_message(), text)) fail_msg("'%s' is not in: %s", text, qe_message());
  va_end(texts);
}

static qe_dataset *must_open(const char *name, const char *data_dir) {
  qe_dataset *dataset = NULL;
  qe_status status = qe_dataset_open(name, data_dir, &dataset);
  if (status != QE_OK) fail_msg("%s", qe_message());
  return dataset;
}

/* ---- reader ---- */

static void check_image(const uint8_t *pixels, int file, int record) {
  for (int y = 0; y < SIDE; y++)
    for (int x = 0; x < SIDE; x++)
      for (int channel = 0; channel < 3; channel++)
        assert_int_equal(pixels[(y * SIDE + x) * 3 + channel], pattern(file, record, channel, y, x));
}

static void test_planes_become_pixels(void **state) {
  (void)state;
  write_set("set", 3);
  qe_dataset *dataset = must_open("cifar10", at("set"));
  assert_string_equal(dataset->name, "cifar10");
  assert_string_equal(dataset->source, at("set"));
  assert_false(dataset->subset);
  assert_int_equal(dataset->classes, 10);
  assert_int_equal(dataset->height, 32);
  assert_int_equal(dataset->width, 32);
  assert_int_equal(dataset->channels, 3);
  assert_int_equal(dataset->train_images, 15);
  assert_int_equal(dataset->test_images, 3);
  for (int image = 0; image < 15; image++) {
    check_image(dataset->train_pixels + image * IMAGE, image / 3, image % 3);
    assert_int_equal(dataset->train_labels[image], label_of(image / 3, image % 3));
  }
  for (int image = 0; image < 3; image++) {
    check_image(dataset->test_pixels + image * IMAGE, 5, image);
    assert_int_equal(dataset->test_labels[image], label_of(5, image));
  }
  qe_dataset_free(dataset);
}

static void test_batches_may_differ_in_length(void **state) {
  (void)state;
  write_set("set", 3);
  assert_int_equal(truncate(at("set/data_batch_2.bin"), RECORD), 0);
  qe_dataset *dataset = must_open("cifar10", at("set"));
  assert_int_equal(dataset->train_images, 13);
  check_image(dataset->train_pixels + 3 * IMAGE, 1, 0);
  check_image(dataset->train_pixels + 4 * IMAGE, 2, 0);
  qe_dataset_free(dataset);
}

static void test_damaged_files_are_refused(void **state) {
  (void)state;
  for (int file = 0; file < FILES; file++) {
    char path[300];
    write_set("set", 2);
    snprintf(path, sizeof path, "%s/%s", at("set"), names[file]);
    overwrite_byte(path, RECORD, 10);
    open_fails("cifar10", at("set"), QE_FORMAT, path, "label 10 at offset 3073", "data get cifar10", NULL);
    overwrite_byte(path, 0, 255);
    open_fails("cifar10", at("set"), QE_FORMAT, path, "label 255 at offset 0 ", NULL);
    assert_int_equal(truncate(path, 2 * RECORD - 1), 0);
    open_fails("cifar10", at("set"), QE_FORMAT, path, "6145 bytes", "offset 3073", "only 3072", "data get cifar10",
               NULL);
    assert_int_equal(truncate(path, 2 * RECORD + 1), 0);
    open_fails("cifar10", at("set"), QE_FORMAT, path, "6147 bytes", "offset 6146", NULL);
    assert_int_equal(truncate(path, 0), 0);
    open_fails("cifar10", at("set"), QE_FORMAT, path, "empty", NULL);
    assert_int_equal(remove(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    open_fails("cifar10", at("set"), QE_FORMAT, path, "not a plain file", NULL);
    assert_int_equal(remove(path), 0);
    if (file == 0) continue; /* without it the folder is not known as CIFAR-10 */
    open_fails("cifar10", at("set"), QE_NOT_FOUND, path, "data get cifar10", NULL);
    assert_int_equal(symlink(names[file], path), 0); /* to itself */
    open_fails("cifar10", at("set"), QE_IO, path, "data get cifar10", NULL);
    assert_int_equal(remove(path), 0);
  }
}

/* ---- look-up ---- */

static int images_of(const char *data_dir) {
  qe_dataset *dataset = must_open("cifar10", data_dir);
  int images = dataset->test_images;
  assert_int_equal(dataset->subset, images == 500);
  qe_dataset_free(dataset);
  return images;
}

static void test_places_are_tried_in_order(void **state) {
  (void)state;
  assert_int_equal(images_of(NULL), 500);
  assert_int_equal(images_of(""), 500);
  write_set("home/.cache/qevo-gpu/cifar-10-batches-bin", 1);
  assert_int_equal(images_of(NULL), 1);
  assert_int_equal(setenv("QEVO_DATA_DIR", at("environment"), 1), 0);
  assert_int_equal(images_of(NULL), 1);
  write_set("environment", 2);
  assert_int_equal(images_of(NULL), 2);
  write_set("option/cifar-10-batches-bin", 3);
  write_set("option", 4);
  assert_int_equal(images_of(at("option")), 3);
  assert_int_equal(images_of(at("option/cifar-10-batches-bin")), 3);
  assert_int_equal(unsetenv("HOME"), 0);
  assert_int_equal(images_of(NULL), 2);
  assert_int_equal(unsetenv("QEVO_DATA_DIR"), 0);
  assert_int_equal(images_of(NULL), 500);
}

static void test_no_silent_stand_in(void **state) {
  (void)state;
  write_set("home/.cache/qevo-gpu/cifar-10-batches-bin", 1);
  open_fails("cifar10", at("nowhere"), QE_NOT_FOUND, at("nowhere"), "cifar-10-batches-bin", "data_batch_1.bin",
             "--data-dir", "data get cifar10", NULL);
  assert_int_equal(qe_make_folders(at("environment/cifar-10-batches-bin")), QE_OK);
  assert_int_equal(setenv("QEVO_DATA_DIR", at("environment"), 1), 0);
  open_fails("cifar10", NULL, QE_NOT_FOUND, at("environment/cifar-10-batches-bin/data_batch_1.bin"), NULL);
}

static void test_unknown_name_lists_the_known(void **state) {
  (void)state;
  size_t count;
  const qe_dataset_kind *kinds = qe_dataset_kinds(&count);
  assert_true(count >= 2);
  for (size_t kind = 0; kind < count; kind++)
    open_fails("cifar11", NULL, QE_USAGE, "'cifar11'", kinds[kind].name, NULL);
  open_fails("", NULL, QE_USAGE, "''", NULL);
}

/* ---- built-in subset ---- */

/* The images of class c are those from c * per_class on; none is of one colour, and the hashes of all go to `hashes`.
 */
static void check_part(const uint8_t *pixels, const int32_t *labels, int images, uint64_t *hashes) {
  for (int image = 0; image < images; image++) {
    const uint8_t *first = pixels + (size_t)image * IMAGE;
    assert_int_equal(labels[image], image / (images / 10));
    assert_true(memcmp(first, first + 3, IMAGE - 3) != 0);
    hashes[image] = fnv1a(first, IMAGE);
  }
}

/* The checksums are those that tools/make-subset.py prints from the whole set. */
static void test_subset(void **state) {
  (void)state;
  static uint64_t hashes[1500];
  write_set("home/.cache/qevo-gpu/cifar-10-batches-bin", 1);
  qe_dataset *dataset = must_open("cifar10-subset", at("nowhere"));
  assert_string_equal(dataset->name, "cifar10-subset");
  assert_non_null(strstr(dataset->source, "built-in subset (1,000 training and 500 test"));
  assert_true(dataset->subset);
  assert_int_equal(dataset->classes, 10);
  assert_int_equal(dataset->train_images, 1000);
  assert_int_equal(dataset->test_images, 500);
  check_part(dataset->train_pixels, dataset->train_labels, 1000, hashes);
  check_part(dataset->test_pixels, dataset->test_labels, 500, hashes + 1000);
  for (int one = 0; one < 1500; one++)
    for (int two = 0; two < one; two++) assert_true(hashes[one] != hashes[two]);
  assert_true(fnv1a(dataset->train_pixels, 1000 * IMAGE) == 0x25C28C61F547A73Bu);
  assert_true(fnv1a(dataset->test_pixels, 500 * IMAGE) == 0x8F0C6EEFB2B49295u);
  qe_dataset_free(dataset);
}

/* ---- out of memory ---- */

/* Every allocation of opening fails in turn; all are survived. Returns how many there are. */
static int fail_each_allocation(const char *name, const char *data_dir) {
  for (int nth = 1;; nth++) {
    qe_dataset *dataset = NULL;
    qe_alloc_fail_nth(nth);
    qe_status status = qe_dataset_open(name, data_dir, &dataset);
    qe_alloc_fail_nth(0);
    if (status == QE_OK) {
      assert_non_null(dataset);
      qe_dataset_free(dataset);
      return nth - 1;
    }
    assert_int_equal(status, QE_NO_MEMORY);
    assert_null(dataset);
  }
}

static void test_out_of_memory(void **state) {
  (void)state;
  write_set("set", 1);
  assert_true(fail_each_allocation("cifar10", at("set")) >= 15);
  assert_int_equal(setenv("QEVO_DATA_DIR", at("nowhere"), 1), 0);
  assert_true(fail_each_allocation("cifar10", NULL) >= 8);
  assert_true(fail_each_allocation("cifar10-subset", NULL) >= 8);
}

/* ---- split and shuffle ---- */

enum { MANY = 1000 };

static void test_split(void **state) {
  (void)state;
  static int32_t labels[MANY], kept[MANY], held[MANY], again[MANY];
  int total[7] = {0}, taken[7] = {0};
  for (int i = 0; i < MANY; i++) total[labels[i] = i * i % 7]++;
  for (int held_out = 0; held_out <= MANY; held_out += 125) {
    bool seen[MANY] = {false};
    assert_int_equal(qe_split(5, labels, MANY, 7, held_out, kept, held), QE_OK);
    memset(taken, 0, sizeof taken);
    for (int i = 0; i < held_out; i++) {
      assert_in_range(held[i], i ? held[i - 1] + 1 : 0, MANY - 1);
      seen[held[i]] = true;
      taken[labels[held[i]]]++;
    }
    for (int i = 0; i < MANY - held_out; i++) {
      assert_in_range(kept[i], i ? kept[i - 1] + 1 : 0, MANY - 1);
      assert_false(seen[kept[i]]);
    }
    for (int label = 0; label < 7; label++) /* the whole part of the share, or one more */
      assert_in_range(taken[label], total[label] * held_out / MANY, (total[label] * held_out + MANY - 1) / MANY);
    assert_int_equal(qe_split(5, labels, MANY, 7, held_out, kept, again), QE_OK);
    assert_memory_equal(held, again, (size_t)held_out * sizeof *held);
    assert_int_equal(qe_split(6, labels, MANY, 7, held_out, kept, again), QE_OK);
    if (held_out > 0 && held_out < MANY) assert_memory_not_equal(held, again, (size_t)held_out * sizeof *held);
  }
}

/* Shares of 2.5, 1.25, 0.25 and 0: the first class has the largest remainder. */
static void test_split_gives_the_rest_to_the_largest_remainder(void **state) {
  (void)state;
  const int32_t labels[16] = {0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 2, 0, 0, 0, 0};
  int32_t kept[12], held[4];
  int taken[4] = {0};
  assert_int_equal(qe_split(1, labels, 16, 4, 4, kept, held), QE_OK);
  for (int i = 0; i < 4; i++) taken[labels[held[i]]]++;
  assert_int_equal(taken[0], 3);
  assert_int_equal(taken[1], 1);
}

static void test_split_refuses(void **state) {
  (void)state;
  int32_t labels[3] = {0, 1, 2}, kept[3], held[3];
  assert_int_equal(qe_split(1, labels, 3, 3, 4, kept, held), QE_USAGE);
  assert_non_null(strstr(qe_message(), "from 0 to 3"));
  assert_int_equal(qe_split(1, labels, 3, 3, -1, kept, held), QE_USAGE);
  assert_int_equal(qe_split(1, labels, 3, 2, 1, kept, held), QE_FORMAT);
  assert_non_null(strstr(qe_message(), "label 2 of image 2"));
  for (int nth = 1; nth <= 5; nth++) {
    qe_alloc_fail_nth(nth);
    assert_int_equal(qe_split(1, labels, 3, 3, 1, kept, held), QE_NO_MEMORY);
  }
  qe_alloc_fail_nth(0);
}

static void test_shuffle_is_a_permutation(void **state) {
  (void)state;
  static int32_t order[MANY], other[MANY];
  bool seen[MANY] = {false};
  qe_shuffle(7, 3, order, MANY);
  for (int i = 0; i < MANY; i++) {
    assert_in_range(order[i], 0, MANY - 1);
    assert_false(seen[order[i]]);
    seen[order[i]] = true;
  }
  qe_shuffle(7, 3, other, MANY);
  assert_memory_equal(order, other, sizeof order);
  qe_shuffle(7, 4, other, MANY);
  assert_memory_not_equal(order, other, sizeof order);
  qe_shuffle(8, 3, other, MANY);
  assert_memory_not_equal(order, other, sizeof order);
  qe_shuffle(7, 3, order, 1);
  assert_int_equal(order[0], 0);
  qe_shuffle(7, 3, NULL, 0);
}

/* All 24 orders of four images come up about equally often: 100 times each, with a standard deviation of 10. */
static void test_shuffle_is_fair(void **state) {
  (void)state;
  int times[256] = {0}, orders = 0;
  for (uint64_t epoch = 0; epoch < 2400; epoch++) {
    int32_t order[4];
    qe_shuffle(1, epoch, order, 4);
    times[order[0] | order[1] << 2 | order[2] << 4 | order[3] << 6]++;
  }
  for (int code = 0; code < 256; code++) {
    if (times[code] == 0) continue;
    assert_in_range(times[code], 60, 140);
    orders++;
  }
  assert_int_equal(orders, 24);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      TEST(test_planes_become_pixels),
      TEST(test_batches_may_differ_in_length),
      TEST(test_damaged_files_are_refused),
      TEST(test_places_are_tried_in_order),
      TEST(test_no_silent_stand_in),
      TEST(test_unknown_name_lists_the_known),
      TEST(test_subset),
      TEST(test_out_of_memory),
      cmocka_unit_test(test_split),
      cmocka_unit_test(test_split_gives_the_rest_to_the_largest_remainder),
      cmocka_unit_test(test_split_refuses),
      cmocka_unit_test(test_shuffle_is_a_permutation),
      cmocka_unit_test(test_shuffle_is_fair),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
