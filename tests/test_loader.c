/* The loader: pixels that depend on nothing but image, seed and position, plans dropped and taken up, errors in order.
 */
#define _GNU_SOURCE /* nftw */
#include "core/data/crop.h"
#include "core/data/loader.h"

#include "tests/images.h"

enum { SIDE = 12, CLASSES = 3, EACH = 9, IMAGES = CLASSES * EACH, BATCH = 5, IMAGE = SIDE * SIDE * 3 };

static qe_dataset *open_set(int threads, int prefetch, double area) {
  char name[300];
  qe_image_options options = {.side = SIDE, .least_area = area, .threads = threads, .prefetch = prefetch};
  qe_dataset *data = NULL;
  snprintf(name, sizeof name, "folder:%s", below("set"));
  OK(qe_dataset_open_images(name, NULL, &options, &data));
  return data;
}

static int set_up(void **state) {
  if (images_set_up(state)) return -1;
  put_tree("set", CLASSES, EACH, 2);
  return 0;
}

/* An order in which every image comes twice. */
static void fill_order(int32_t *order) {
  for (int32_t i = 0; i < 2 * IMAGES; i++) order[i] = i * 7 % IMAGES;
}

static qe_status take(qe_loader *loader, const int32_t *order, int32_t first, int32_t count, uint8_t *pixels) {
  const uint8_t *batch;
  QE_TRY(qe_loader_take(loader, order + first, count, 3, 1000 + (uint64_t)first, &batch));
  memcpy(pixels + (size_t)first * IMAGE, batch, (size_t)count * IMAGE);
  return QE_OK;
}

/* All batches of the order, from batch `from` on, into pixels [2 * IMAGES]. */
static void take_all(int threads, int prefetch, double area, bool expect, int from, uint8_t *pixels) {
  int32_t order[2 * IMAGES];
  qe_loader *loader;
  qe_dataset *data = open_set(threads, prefetch, area);
  fill_order(order);
  OK(qe_loader_new(data, false, true, BATCH, &loader));
  int32_t first = from * BATCH;
  if (expect) OK(qe_loader_expect(loader, order + first, 2 * IMAGES - first, 3, 1000 + (uint64_t)first));
  for (; first < 2 * IMAGES; first += BATCH)
    OK(take(loader, order, first, 2 * IMAGES - first < BATCH ? 2 * IMAGES - first : BATCH, pixels));
  qe_loader_free(loader);
  qe_dataset_free(data);
}

/* ---- pixels ---- */

static void test_threads_change_nothing(void **state) {
  (void)state;
  static uint8_t one[2 * IMAGES * IMAGE], other[2 * IMAGES * IMAGE];
  take_all(1, 1, 0.2, true, 0, one);
  static const int threads[] = {2, 3, 8, 1}, prefetch[] = {1, 5, 2, 64};
  for (int i = 0; i < 4; i++) {
    memset(other, 0, sizeof other);
    take_all(threads[i], prefetch[i], 0.2, true, 0, other);
    assert_memory_equal(one, other, sizeof one);
  }
  memset(other, 0, sizeof other);
  take_all(3, 2, 0.2, false, 0, other); /* nothing announced */
  assert_memory_equal(one, other, sizeof one);
  /* A second time, elsewhere: another crop. */
  assert_true(memcmp(one, one + IMAGES * IMAGE, IMAGE) != 0);
}

static void test_goes_on_where_it_stopped(void **state) {
  (void)state;
  static uint8_t whole[2 * IMAGES * IMAGE], rest[2 * IMAGES * IMAGE];
  take_all(2, 3, 0.2, true, 0, whole);
  take_all(2, 3, 0.2, true, 4, rest);
  assert_memory_equal(whole + 4 * BATCH * IMAGE, rest + 4 * BATCH * IMAGE, sizeof whole - 4 * BATCH * IMAGE);
}

/* Without augmentation an image is what resampling its middle gives. */
static void test_middle(void **state) {
  (void)state;
  static uint8_t pixels[2 * IMAGES * IMAGE];
  uint8_t want[IMAGE], *bytes = NULL;
  size_t capacity = 0, count;
  qe_decoder *decoder;
  qe_resampler resampler = {0};
  take_all(2, 2, 1, true, 0, pixels);
  qe_dataset *data = open_set(1, 1, 1);
  OK(qe_decoder_new(&decoder));
  for (int i = 0; i < IMAGES; i++) {
    qe_picture picture;
    qe_image_info info;
    int image = i * 7 % IMAGES;
    OK(qe_image_list_load(&data->images->part[0], (size_t)image, &bytes, &capacity, &count));
    OK(qe_image_size(decoder, bytes, count, "x", &info));
    qe_crop crop = qe_crop_middle(info.width, info.height, SIDE, SIDE);
    int reduce = info.reducible ? qe_crop_reduce(&crop) : 1;
    OK(qe_image_decode(decoder, bytes, count, "x", reduce, NULL, &picture));
    crop = qe_crop_of_reduced(&crop, reduce, picture.width, picture.height);
    OK(qe_resample(&resampler, &picture, &crop, SIDE, want));
    assert_memory_equal(pixels + i * IMAGE, want, IMAGE);
    assert_memory_equal(pixels + (i + IMAGES) * IMAGE, want, IMAGE);
  }
  qe_resampler_free(&resampler);
  qe_decoder_free(decoder);
  qe_free(bytes);
  qe_dataset_free(data);
}

/* Plans are dropped in the middle; what is asked for counts. */
static void test_plans(void **state) {
  (void)state;
  static uint8_t want[2 * IMAGES * IMAGE], got[2 * IMAGES * IMAGE];
  int32_t order[2 * IMAGES];
  qe_loader *loader;
  fill_order(order);
  take_all(1, 1, 0.2, true, 0, want);
  qe_dataset *data = open_set(3, 2, 0.2);
  OK(qe_loader_new(data, false, true, BATCH, &loader));
  draws from = {.seed = 8};
  for (int turn = 0; turn < 60; turn++) {
    int32_t first = draw_range(&from, 0, 2 * IMAGES - 1), left = 2 * IMAGES - first;
    if (turn % 3) OK(qe_loader_expect(loader, order + first, left, 3, 1000 + (uint64_t)first));
    int batches = draw_range(&from, 0, 3);
    for (int i = 0; i < batches && left > 0; i++, first += BATCH, left -= BATCH) {
      int32_t count = left < BATCH ? left : BATCH;
      OK(take(loader, order, first, count, got));
      assert_memory_equal(got + (size_t)first * IMAGE, want + (size_t)first * IMAGE, (size_t)count * IMAGE);
    }
  }
  const uint8_t *batch;
  OK(qe_loader_expect(loader, order, 0, 3, 0)); /* nothing to come */
  FAILS(QE_SHAPE, qe_loader_take(loader, order, BATCH + 1, 3, 0, &batch), "must be 1 to 5");
  order[1] = IMAGES;
  FAILS(QE_SHAPE, qe_loader_take(loader, order, 2, 3, 0, &batch), "image 27 asked for");
  assert_true(qe_loader_waited(loader) >= 0);
  qe_loader_free(loader);
  qe_dataset_free(data);
}

/* ---- errors ---- */

/* Of several bad images the first in order is named, by any number of threads, and not before its batch. */
static void test_first_error(void **state) {
  (void)state;
  int32_t order[IMAGES];
  for (int32_t i = 0; i < IMAGES; i++) order[i] = i;
  put_text("set/train/class1/002.jpg", "no image"); /* image 11: batch 2, place 1 */
  put_text("set/train/class1/004.jpg", "no image"); /* image 13 */
  for (int threads = 1; threads < 7; threads++) {
    const uint8_t *batch;
    qe_loader *loader;
    qe_dataset *data = open_set(threads, 4, 0.2);
    OK(qe_loader_new(data, false, true, BATCH, &loader));
    OK(qe_loader_expect(loader, order, IMAGES, 1, 0));
    OK(qe_loader_take(loader, order, BATCH, 1, 0, &batch));
    OK(qe_loader_take(loader, order + BATCH, BATCH, 1, BATCH, &batch));
    FAILS(QE_FORMAT, qe_loader_take(loader, order + 2 * BATCH, BATCH, 1, 2 * BATCH, &batch),
          "class1/002.jpg: neither JPEG nor PNG");
    OK(qe_loader_take(loader, order + 3 * BATCH, BATCH, 1, 3 * BATCH, &batch)); /* the others are good */
    qe_loader_free(loader);
    qe_dataset_free(data);
  }
}

/* Freed while its threads are at work, and before they have begun. */
static void test_freed_at_work(void **state) {
  (void)state;
  int32_t order[2 * IMAGES];
  fill_order(order);
  qe_dataset *data = open_set(4, 8, 0.2);
  for (int turn = 0; turn < 20; turn++) {
    qe_loader *loader;
    const uint8_t *batch;
    OK(qe_loader_new(data, turn % 2, true, BATCH, &loader));
    int32_t count = turn % 2 ? 6 : 2 * IMAGES;
    if (turn % 2)
      for (int i = 0; i < count; i++) order[i] %= 6;
    else
      fill_order(order);
    if (turn > 1) OK(qe_loader_expect(loader, order, count, 1, 0));
    if (turn > 10) OK(qe_loader_take(loader, order, BATCH, 1, 0, &batch));
    qe_loader_free(loader);
  }
  qe_dataset_free(data);
}

static void test_needs_images(void **state) {
  (void)state;
  qe_loader *loader;
  qe_dataset *data = small_data(8, 3, 2, 4, 4);
  FAILS(QE_USAGE, qe_loader_new(data, false, true, BATCH, &loader), "is in memory");
  qe_dataset_free(data);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, images_tear_down)
  const struct CMUnitTest tests[] = {
      TEST(test_threads_change_nothing),
      TEST(test_goes_on_where_it_stopped),
      TEST(test_middle),
      TEST(test_plans),
      TEST(test_first_error),
      TEST(test_freed_at_work),
      TEST(test_needs_images),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
