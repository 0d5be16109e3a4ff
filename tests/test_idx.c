/* Readers of records and arrays: CIFAR-100's binary files and the idx files of MNIST, and what they refuse. */
#define _GNU_SOURCE /* nftw */
#include "core/data/idx.h"

#include "tests/images.h"

#include <zlib.h>

enum { SIDE = 28, IMAGE = SIDE * SIDE, CIFAR_IMAGE = 3072, CIFAR_RECORD = 2 + CIFAR_IMAGE };

/* ---- writing ---- */

/* An idx file of `dims` dimensions, the first `count`; returns its size. */
static size_t make_idx(int dims, uint32_t count, uint8_t *bytes) {
  size_t at = 4;
  memcpy(bytes, (uint8_t[]){0, 0, 8, (uint8_t)dims}, 4);
  for (int i = 0; i < dims; i++) {
    uint32_t dim = i == 0 ? count : SIDE;
    for (int shift = 24; shift >= 0; shift -= 8) bytes[at++] = (uint8_t)(dim >> shift);
  }
  size_t values = dims == 1 ? count : (size_t)count * IMAGE;
  for (size_t i = 0; i < values; i++) bytes[at++] = (uint8_t)(dims == 1 ? i % 10 : i * 7 + i / IMAGE);
  return at;
}

static size_t pack(const uint8_t *bytes, size_t count, uint8_t *packed, size_t room) {
  z_stream stream = {0};
  assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  stream.next_in = (Bytef *)(uintptr_t)bytes;
  stream.avail_in = (uInt)count;
  stream.next_out = packed;
  stream.avail_out = (uInt)room;
  assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
  deflateEnd(&stream);
  return stream.total_out;
}

static void put_idx(const char *path, int dims, uint32_t count, bool packed) {
  static uint8_t plain[1 << 17], small[1 << 17];
  size_t bytes = make_idx(dims, count, plain);
  if (packed) bytes = pack(plain, bytes, small, sizeof small);
  put(path, packed ? small : plain, bytes);
}

static void put_mnist(const char *folder, bool packed) {
  static const char *const names[] = {"train-images", "train-labels", "t10k-images", "t10k-labels"};
  for (int i = 0; i < 4; i++) {
    char path[128];
    int dims = i % 2 ? 1 : 3;
    snprintf(path, sizeof path, "%s/%s-idx%d-ubyte%s", folder, names[i], dims, packed ? ".gz" : "");
    put_idx(path, dims, i < 2 ? 30 : 20, packed);
  }
}

/* ---- MNIST ---- */

static void check_mnist(const char *name, const char *folder) {
  qe_dataset *data;
  OK(qe_dataset_open(name, below(folder), &data));
  assert_int_equal(data->height, SIDE);
  assert_int_equal(data->width, SIDE);
  assert_int_equal(data->channels, 1);
  assert_int_equal(data->classes, 10);
  assert_int_equal(data->train_images, 30);
  assert_int_equal(data->test_images, 20);
  for (int i = 0; i < 30; i++) assert_int_equal(data->train_labels[i], i % 10);
  for (size_t i = 0; i < 30u * IMAGE; i++) assert_int_equal(data->train_pixels[i], (uint8_t)(i * 7 + i / IMAGE));
  assert_int_equal(data->test_pixels[20 * IMAGE - 1], (uint8_t)((20 * IMAGE - 1) * 7 + 19));
  qe_dataset_free(data);
}

static void test_plain_and_packed(void **state) {
  (void)state;
  put_mnist("one/mnist", false);
  check_mnist("mnist", "one");
  put_mnist("two/fashion-mnist", true);
  check_mnist("fashion-mnist", "two");
  put_mnist("three", false); /* the folder itself */
  check_mnist("mnist", "three");
  put_mnist("four", true);
  check_mnist("mnist", "four");
}

static qe_status open_mnist(void) {
  qe_dataset *data = NULL;
  qe_status status = qe_dataset_open("mnist", below("set"), &data);
  if (status == QE_OK) qe_dataset_free(data);
  return status;
}

static void test_bad_sets(void **state) {
  (void)state;
  FAILS(QE_NOT_FOUND, open_mnist(), "qevo-gpu data get mnist");
  put_mnist("set", false);
  put_idx("set/t10k-labels-idx1-ubyte", 1, 19, false);
  FAILS(QE_FORMAT, open_mnist(), "19 labels for the 20 images");
  put_mnist("set", false);
  static uint8_t bytes[256];
  size_t count = make_idx(1, 30, bytes);
  bytes[8 + 17] = 10;
  put("set/train-labels-idx1-ubyte", bytes, count);
  FAILS(QE_FORMAT, open_mnist(), "label 10");
  FAILS(QE_FORMAT, open_mnist(), "offset 25");
  FAILS(QE_FORMAT, open_mnist(), "train-labels-idx1-ubyte");
  put_mnist("set", false);
  assert_int_equal(remove(below("set/t10k-images-idx3-ubyte")), 0);
  FAILS(QE_NOT_FOUND, open_mnist(), "t10k-images-idx3-ubyte.gz");
}

/* ---- bytes ---- */

static qe_status parse(const uint8_t *bytes, size_t count, int dims) {
  qe_idx idx;
  uint8_t *exact = malloc(count ? count : 1); /* so that a sanitizer sees a read past the end */
  if (count) memcpy(exact, bytes, count);
  qe_status status = qe_idx_parse(exact, count, "some.idx", dims, &idx);
  if (status == QE_OK)
    qe_free(idx.values);
  else
    assert_null(idx.values);
  free(exact);
  return status;
}

static void test_damaged_bytes(void **state) {
  (void)state;
  static uint8_t bytes[1 << 16], packed[1 << 16], longer[1 << 16];
  size_t count = make_idx(3, 20, bytes), small = pack(bytes, count, packed, sizeof packed);
  OK(parse(bytes, count, 3));
  OK(parse(packed, small, 3));
  for (size_t cut = 0; cut < count; cut += cut < 20 ? 1 : 997) FAILS(QE_FORMAT, parse(bytes, cut, 3), "some.idx: ");
  for (size_t cut = 0; cut < small; cut += 7) FAILS(QE_FORMAT, parse(packed, cut, 3), "some.idx: ");
  FAILS(QE_FORMAT, parse(bytes, count, 1), "wrong magic number 0x00000803 at offset 0");
  FAILS(QE_FORMAT, parse(bytes, count - 1, 3), "cut short: ends at offset 15695, 1 more");
  memcpy(longer, bytes, count);
  longer[count] = 1;
  FAILS(QE_FORMAT, parse(longer, count + 1, 3), "1 bytes follow the last value at offset 15696");
  size_t more = pack(longer, count + 1, packed, sizeof packed);
  FAILS(QE_FORMAT, parse(packed, more, 3), "unpacks to more than the 15696 bytes");
  small = pack(bytes, count, packed, sizeof packed);
  packed[small - 6] ^= 1; /* checksum */
  FAILS(QE_FORMAT, parse(packed, small, 3), "incorrect data check");
}

/* A header that claims gigabytes takes no memory. */
static void test_sizes_must_fit_the_file(void **state) {
  (void)state;
  static uint8_t bytes[1024], packed[256];
  make_idx(3, 1, bytes);
  memset(bytes + 4, 0x7f, 12);
  int64_t before = qe_alloc_count();
  FAILS(QE_FORMAT, parse(bytes, 64, 3), "at offset 4 does not go with a file of 64 bytes");
  size_t small = pack(bytes, 64, packed, sizeof packed);
  FAILS(QE_FORMAT, parse(packed, small, 3), "does not go with");
  assert_int_equal(qe_alloc_count(), before);
}

/* Whatever is changed, the parser returns. */
static void test_any_bytes(void **state) {
  (void)state;
  static uint8_t plain[1 << 16], packed[1 << 16];
  size_t count = make_idx(3, 3, plain), small = pack(plain, count, packed, sizeof packed);
  draws from = {.seed = 3};
  for (int turn = 0; turn < 3000; turn++) {
    uint8_t *bytes = turn % 2 ? plain : packed;
    size_t at = (size_t)draw_range(&from, 0, (int)(turn % 2 ? 24 : small - 1));
    uint8_t old = bytes[at];
    bytes[at] = (uint8_t)draw_range(&from, 0, 255);
    qe_status status = parse(bytes, turn % 2 ? count : small, 3);
    assert_true(status == QE_OK || status == QE_FORMAT);
    bytes[at] = old;
  }
}

/* ---- CIFAR-100 ---- */

static void put_cifar100(const char *path, int records, int bad) {
  static uint8_t bytes[8 * CIFAR_RECORD];
  for (int i = 0; i < records; i++) {
    uint8_t *record = bytes + i * CIFAR_RECORD;
    record[0] = (uint8_t)(i % 20);
    record[1] = (uint8_t)(i == bad ? 100 : 99 - i);
    for (int k = 0; k < CIFAR_IMAGE; k++) record[2 + k] = (uint8_t)(k / 1024 * 80 + k % 1024 % 61 + i);
  }
  put(path, bytes, (size_t)records * CIFAR_RECORD);
}

static qe_status open_cifar100(void) {
  qe_dataset *data = NULL;
  qe_status status = qe_dataset_open("cifar100", images_root, &data);
  if (status == QE_OK) qe_dataset_free(data);
  return status;
}

static void test_cifar100(void **state) {
  (void)state;
  put_cifar100("cifar-100-binary/train.bin", 5, -1);
  put_cifar100("cifar-100-binary/test.bin", 3, -1);
  qe_dataset *data;
  OK(qe_dataset_open("cifar100", images_root, &data));
  assert_int_equal(data->classes, 100);
  assert_int_equal(data->train_images, 5);
  assert_int_equal(data->test_images, 3);
  for (int i = 0; i < 5; i++) assert_int_equal(data->train_labels[i], 99 - i);
  for (int k = 0; k < CIFAR_IMAGE; k++)
    assert_int_equal(data->train_pixels[4 * CIFAR_IMAGE + k % 1024 * 3 + k / 1024], k / 1024 * 80 + k % 1024 % 61 + 4);
  qe_dataset_free(data);
  put_cifar100("cifar-100-binary/test.bin", 3, 2);
  FAILS(QE_FORMAT, open_cifar100(), "label 100 at offset 6149 is not from 0 to 99");
  FAILS(QE_FORMAT, open_cifar100(), "qevo-gpu data get cifar100");
  assert_int_equal(truncate(below("cifar-100-binary/test.bin"), 2 * CIFAR_RECORD + 9), 0);
  FAILS(QE_FORMAT, open_cifar100(), "the one at offset 6148 has only 9");
  assert_int_equal(truncate(below("cifar-100-binary/test.bin"), 0), 0);
  FAILS(QE_FORMAT, open_cifar100(), "empty at offset 0, a record of 3074 bytes expected");
  assert_int_equal(remove(below("cifar-100-binary/test.bin")), 0);
  FAILS(QE_NOT_FOUND, open_cifar100(), "train.bin and test.bin are needed");
}

static void test_out_of_memory(void **state) {
  (void)state;
  put_mnist("set", true);
  for (int nth = 1;; nth++) {
    qe_alloc_fail_nth(nth);
    qe_status status = open_mnist();
    qe_alloc_fail_nth(0);
    if (status == QE_OK) {
      assert_true(nth > 10);
      return;
    }
    assert_int_equal(status, QE_NO_MEMORY);
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, images_set_up, images_tear_down)
  const struct CMUnitTest tests[] = {
      TEST(test_plain_and_packed), TEST(test_bad_sets), TEST(test_damaged_bytes), TEST(test_sizes_must_fit_the_file),
      TEST(test_any_bytes),        TEST(test_cifar100), TEST(test_out_of_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
