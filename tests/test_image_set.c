/* Data sets in folders and tar shards: what is found and in which order, and what is refused. */
#define _GNU_SOURCE /* nftw */
#include "core/data/image_set.h"
#include "core/data/loader.h"

#include "tests/images.h"

static qe_dataset *open_set(const char *path, int side, double area) {
  char name[300];
  qe_image_options options = qe_image_defaults();
  qe_dataset *data = NULL;
  options.side = side;
  options.least_area = area;
  snprintf(name, sizeof name, "folder:%s", below(path));
  OK(qe_dataset_open_images(name, NULL, &options, &data));
  return data;
}

static qe_status try_set(const char *path) {
  char name[300];
  qe_dataset *data = NULL;
  snprintf(name, sizeof name, "folder:%s", below(path));
  qe_status status = qe_dataset_open_images(name, NULL, NULL, &data);
  if (status == QE_OK) qe_dataset_free(data);
  return status;
}

static void check_entry(const qe_dataset *data, int part, int image, const char *end, int label) {
  char name[1024];
  qe_image_list_name(&data->images->part[part], (size_t)image, name, sizeof name);
  if (!strstr(name, end)) fail_msg("image %d is %s, must contain %s", image, name, end);
  assert_int_equal((part ? data->test_labels : data->train_labels)[image], label);
}

/* ---- folders ---- */

static void test_folders(void **state) {
  (void)state;
  put_tree("set", 3, 4, 2);
  put_jpeg("set/train/class1/deeper/x.JPEG", 1, 30, 30);
  put_text("set/train/class1/notes.txt", "not an image");
  put_text("set/train/.hidden.jpg", "left out");
  put_text("set/train/README", "left out");
  qe_dataset *data = open_set("set", 16, 0.08);
  assert_int_equal(data->classes, 3);
  assert_int_equal(data->train_images, 13);
  assert_int_equal(data->test_images, 6);
  assert_int_equal(data->height, 16);
  assert_int_equal(data->width, 16);
  assert_int_equal(data->channels, 3);
  assert_null(data->train_pixels);
  check_entry(data, 0, 0, "/train/class0/000.jpg", 0);
  check_entry(data, 0, 3, "/train/class0/003.png", 0);
  check_entry(data, 0, 8, "/train/class1/deeper/x.JPEG", 1);
  check_entry(data, 0, 12, "/train/class2/003.png", 2);
  check_entry(data, 1, 5, "/val/class2/001.png", 2);
  assert_string_equal(data->images->classes.name[2], "class2");
  qe_dataset_free(data);
}

static void test_classes_go_by_name(void **state) {
  (void)state;
  static const char *const classes[] = {"n9", "n10", "B", "a"}; /* bytes: B a n10 n9 */
  static const int labels[] = {3, 2, 0, 1};
  char path[128];
  for (int i = 0; i < 4; i++) {
    snprintf(path, sizeof path, "set/train/%s/x.jpg", classes[i]);
    put_jpeg(path, i, 20, 20);
  }
  put_jpeg("set/test/n10/x.jpg", 1, 20, 20);
  qe_dataset *data = open_set("set", 16, 1);
  for (int i = 0; i < 4; i++) {
    snprintf(path, sizeof path, "/%s/x.jpg", classes[i]);
    check_entry(data, 0, labels[i], path, labels[i]);
  }
  check_entry(data, 1, 0, "/test/n10/", 2);
  qe_dataset_free(data);
}

static void test_bad_folders(void **state) {
  (void)state;
  FAILS(QE_NOT_FOUND, try_set("nowhere"), "no such folder");
  put_text("set/x", "");
  FAILS(QE_NOT_FOUND, try_set("set"), "a folder train");
  put_text("set/train/x", "");
  FAILS(QE_FORMAT, try_set("set"), "/train: no images: a folder for each class");
  put_jpeg("set/train/a/1.jpg", 1, 20, 20);
  FAILS(QE_NOT_FOUND, try_set("set"), "a folder val or test");
  put_jpeg("set/val/b/1.jpg", 1, 20, 20);
  FAILS(QE_FORMAT, try_set("set"), "class 'b' has no training images");
  put_text("set/train/b/1.txt", "");
  FAILS(QE_FORMAT, try_set("set"), "/train/b: no JPEG or PNG file");
  put_text("set/train/b/1.webp", "");
  FAILS(QE_FORMAT, try_set("set"), "/train/b/1.webp: only JPEG and PNG are read: convert it");
}

static void test_options(void **state) {
  (void)state;
  put_tree("set", 2, 2, 1);
  char name[300];
  qe_dataset *data = NULL;
  snprintf(name, sizeof name, "folder:%s", below("set"));
  static const qe_image_options bad[] = {
      {0, 0, 1, 0, 1}, {32, 31, 1, 0, 1}, {32, 0, 0, 0, 1}, {32, 0, 1, 0, 0}, {5000, 0, 1, 0, 1}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(qe_dataset_open_images(name, NULL, &bad[i], &data), QE_USAGE);
  assert_int_equal(qe_image_resize(224), 256);
  assert_int_equal(qe_image_resize(32), 32);
}

/* ---- shards ---- */

/* A shard of WebDataset: an image and its class one after the other, in either order, and files of no interest. */
static void put_shard(const char *path, int first, int count) {
  tar_file tar = tar_open(path, NULL);
  for (int i = first; i < first + count; i++) {
    char name[200], text[16];
    snprintf(text, sizeof text, i % 2 ? "%d" : "%d\n", i % 3);
    snprintf(name, sizeof name, "%06d.cls", i);
    if (i % 2) tar_put_text(&tar, name, text);
    snprintf(name, sizeof name, "%06d.json", i);
    tar_put_text(&tar, name, "{}");
    snprintf(name, sizeof name, "%06d.mask.png", i);
    tar_put_text(&tar, name, "not looked at");
    snprintf(name, sizeof name, "%06d.jpg", i);
    tar_put_jpeg(&tar, name, i, 30 + i, 30);
    snprintf(name, sizeof name, "%06d.cls", i);
    if (i % 2 == 0) tar_put_text(&tar, name, text);
  }
  tar_close(&tar);
}

static void test_shards(void **state) {
  (void)state;
  put_shard("set/train/b.tar", 4, 5);
  put_shard("set/train/a.tar", 0, 4);
  put_shard("set/val/a.tar", 10, 3);
  put_shard("flat/x-train-000.tar", 0, 6);
  put_shard("flat/x-val-000.tar", 6, 3);
  qe_dataset *data = open_set("set", 16, 1);
  assert_int_equal(data->classes, 3);
  assert_int_equal(data->train_images, 9);
  assert_int_equal(data->test_images, 3);
  for (int i = 0; i < 9; i++) {
    char name[32];
    snprintf(name, sizeof name, "%s: %06d.jpg", i < 4 ? "a.tar" : "b.tar", i);
    check_entry(data, 0, i, name, i % 3);
  }
  /* The bytes are those of the image. */
  static encoded e;
  uint8_t *bytes = NULL;
  size_t capacity = 0, count;
  encode_jpeg(7, 37, 30, &e);
  OK(qe_image_list_load(&data->images->part[0], 7, &bytes, &capacity, &count));
  assert_int_equal(count, e.count);
  assert_memory_equal(bytes, e.bytes, count);
  qe_free(bytes);
  qe_dataset_free(data);
  data = open_set("flat", 16, 1);
  assert_int_equal(data->train_images, 6);
  assert_int_equal(data->test_images, 3);
  qe_dataset_free(data);
}

/* Class folders in shards, a long path among them, and paths with several dots. */
static void test_shards_with_folders(void **state) {
  (void)state;
  char path[300] = "./dogs/";
  memset(path + 7, 'x', 150);
  strcpy(path + 157, ".jpg");
  for (int part = 0; part < 2; part++) {
    tar_file tar = tar_open(part ? "set/val/1.tar" : "set/train/1.tar", NULL);
    tar_put_jpeg(&tar, path, 1, 20, 20);
    tar_put_jpeg(&tar, "cats/a.1.jpg", 2, 20, 20);
    tar_put_jpeg(&tar, "cats/a.2.jpg", 3, 20, 20);
    tar_close(&tar);
  }
  qe_dataset *data = open_set("set", 16, 1);
  assert_int_equal(data->classes, 2);
  assert_int_equal(data->train_images, 3);
  check_entry(data, 0, 0, "xxxx.jpg", 1);
  check_entry(data, 0, 1, "cats/a.1.jpg", 0);
  check_entry(data, 1, 2, "cats/a.2.jpg", 0);
  qe_dataset_free(data);
}

static void test_bad_shards(void **state) {
  (void)state;
  struct stat info;
  put_shard("set/val/1.tar", 0, 3);
  put_text("set/train/1.tar", "");
  FAILS(QE_FORMAT, try_set("set"), "/train/1.tar: empty");
  put_text("set/train/1.tar", "this is no tar");
  FAILS(QE_FORMAT, try_set("set"), "/train/1.tar: not a tar file");
  put_shard("set/train/1.tar", 0, 4);
  assert_int_equal(stat(below("set/train/1.tar"), &info), 0);
  OK(try_set("set"));
  FILE *file = fopen(below("set/train/1.tar"), "r+b");
  fseek(file, 512 * 2 + 20, SEEK_SET); /* in the second header: of 000000.mask.png */
  fputc('!', file);
  fclose(file);
  FAILS(QE_FORMAT, try_set("set"), "at offset 1024");
  put_shard("set/train/1.tar", 0, 1);
  assert_int_equal(truncate(below("set/train/1.tar"), 512 * 5 + 100), 0); /* within 000000.jpg */
  FAILS(QE_FORMAT, try_set("set"), "cut short in 000000.jpg, whose header is at offset 2048");
  tar_file tar = tar_open("set/train/1.tar", "gzip");
  tar_put_jpeg(&tar, "a/1.jpg", 1, 20, 20);
  tar_close(&tar);
  FAILS(QE_FORMAT, try_set("set"), "compressed by gzip");
  tar = tar_open("set/train/1.tar", NULL);
  tar_put_jpeg(&tar, "1.jpg", 1, 20, 20);
  tar_close(&tar);
  FAILS(QE_FORMAT, try_set("set"), "1.jpg: neither a .cls file nor a folder says its class");
  tar = tar_open("set/train/1.tar", NULL);
  tar_put_jpeg(&tar, "1.jpg", 1, 20, 20);
  tar_put_text(&tar, "1.cls", "cat");
  tar_close(&tar);
  FAILS(QE_FORMAT, try_set("set"), "1.cls (at offset ");
  FAILS(QE_FORMAT, try_set("set"), "not the number of a class: 'cat'");
  tar = tar_open("set/train/1.tar", NULL);
  tar_put_jpeg(&tar, "1.jpg", 1, 20, 20);
  tar_put_text(&tar, "1.cls", "1");
  tar_put_jpeg(&tar, "a/2.jpg", 1, 20, 20);
  tar_close(&tar);
  FAILS(QE_FORMAT, try_set("set"), "a/2.jpg: no .cls file goes with it");
  tar = tar_open("set/train/1.tar", NULL);
  tar_put_jpeg(&tar, "1.jpg", 1, 20, 20);
  tar_put_text(&tar, "1.cls", "1");
  tar_close(&tar);
  FAILS(QE_FORMAT, try_set("set"), "class 2 is not from 0 to 1");
  tar = tar_open("set/train/1.tar", NULL);
  tar_put_text(&tar, "1.txt", "1");
  tar_close(&tar);
  FAILS(QE_FORMAT, try_set("set"), "no JPEG or PNG file in it");
}

/* Any change of a tar's bytes: it is read or refused. */
static void test_any_bytes(void **state) {
  (void)state;
  char *bytes;
  size_t count;
  draws from = {.seed = 6};
  put_shard("some.tar", 0, 2);
  OK(qe_file_read(below("some.tar"), 1 << 20, &bytes, &count));
  for (int turn = 0; turn < 1000; turn++) {
    size_t used = turn % 3 ? count : (size_t)draw_range(&from, 0, (int32_t)count);
    uint8_t *changed = malloc(used ? used : 1);
    memcpy(changed, bytes, used);
    for (int i = 0; used && i < 2; i++)
      changed[draw_range(&from, 0, (int32_t)used - 1)] = (uint8_t)draw_range(&from, 0, 255);
    qe_class_names classes = {0};
    qe_image_list list = {0};
    qe_status status = qe_image_list_add_tar(changed, used, "some.tar", &classes, &list);
    assert_true(status == QE_OK || status == QE_FORMAT);
    for (size_t i = 0; i < list.count; i++) assert_true(list.entry[i].offset + list.entry[i].bytes <= used);
    qe_class_names_free(&classes);
    qe_image_list_free(&list);
    free(changed);
  }
  qe_free(bytes);
}

/* ---- into memory ---- */

static void test_hold(void **state) {
  (void)state;
  put_tree("set", 2, 40, 3);
  qe_dataset *data = open_set("set", 16, 0.08);
  assert_int_equal(qe_dataset_bytes(data), 86 * 16 * 16 * 3);
  FAILS(QE_USAGE, qe_dataset_hold(data, 66047), "--data-memory larger");
  assert_non_null(data->images);
  OK(qe_dataset_hold(data, 66048));
  assert_null(data->images);
  assert_int_equal(data->train_images, 80);
  assert_string_equal(data->class_names[1], "class1");
  /* A picture has a colour of its own; the middle is near it. */
  for (int i = 0; i < 80; i++) {
    int number = i / 40 * 100 + i % 40, got = data->train_pixels[(i * 256 + 8 * 16 + 8) * 3];
    assert_true(abs(got - (60 + number * 23 % 120)) < 50);
  }
  qe_dataset_free(data);
}

/* Single images are the same whether they are in memory or not. */
static void test_read(void **state) {
  (void)state;
  enum { IMAGES = 70, EACH = 16 * 16 * 3 }; /* more than a batch of the loader */
  int32_t index[IMAGES];
  uint8_t *pixels = qe_alloc(2 * IMAGES * EACH);
  put_tree("set", 2, 40, 3);
  qe_dataset *data = open_set("set", 16, 0.08);
  for (int i = 0; i < IMAGES; i++) index[i] = i * 37 % 80;
  OK(qe_loader_copy(data, false, index, IMAGES, pixels));
  OK(qe_dataset_hold(data, 66048));
  OK(qe_loader_copy(data, false, index, IMAGES, pixels + IMAGES * EACH));
  assert_memory_equal(pixels, pixels + IMAGES * EACH, IMAGES * EACH);
  OK(qe_loader_copy(data, true, index, 0, NULL));
  qe_dataset_free(data);
  qe_free(pixels);
}

/* A file that goes bad after it was listed is named. */
static void test_hold_refuses(void **state) {
  (void)state;
  put_tree("set", 2, 4, 3);
  put_text("set/train/class1/001.jpg", "GIF89a is no JPEG");
  qe_dataset *data = open_set("set", 16, 1);
  FAILS(QE_FORMAT, qe_dataset_hold(data, 1 << 20), "/train/class1/001.jpg: neither JPEG nor PNG");
  assert_non_null(data->images);
  assert_int_equal(remove(below("set/train/class1/000.jpg")), 0);
  FAILS(QE_NOT_FOUND, qe_dataset_hold(data, 1 << 20), "/train/class1/000.jpg: cannot be opened");
  qe_dataset_free(data);
}

static void test_out_of_memory(void **state) {
  (void)state;
  put_tree("set", 2, 2, 1);
  put_shard("set/val/1.tar", 0, 1);
  assert_int_equal(remove(below("set/val/1.tar")), 0);
  for (int nth = 1;; nth++) {
    char name[300];
    qe_dataset *data = NULL;
    qe_image_options options = {.side = 8, .least_area = 1, .threads = 2, .prefetch = 1};
    snprintf(name, sizeof name, "folder:%s", below("set"));
    qe_alloc_fail_nth(nth);
    qe_status status = qe_dataset_open_images(name, NULL, &options, &data);
    if (status == QE_OK) status = qe_dataset_hold(data, 1 << 20);
    qe_alloc_fail_nth(0);
    qe_dataset_free(data);
    if (status == QE_OK) {
      assert_true(nth > 40);
      return;
    }
    if (status != QE_NO_MEMORY) fail_msg("%d: %s", nth, qe_message());
  }
}

static void test_shard_out_of_memory(void **state) {
  (void)state;
  put_shard("set/train/1.tar", 0, 3);
  put_shard("set/val/1.tar", 0, 3);
  for (int nth = 1;; nth++) {
    qe_alloc_fail_nth(nth);
    qe_status status = try_set("set");
    qe_alloc_fail_nth(0);
    if (status == QE_OK) return;
    if (status != QE_NO_MEMORY) fail_msg("%d: %s", nth, qe_message());
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, images_set_up, images_tear_down)
  const struct CMUnitTest tests[] = {
      TEST(test_folders),
      TEST(test_classes_go_by_name),
      TEST(test_bad_folders),
      TEST(test_options),
      TEST(test_shards),
      TEST(test_shards_with_folders),
      TEST(test_bad_shards),
      TEST(test_any_bytes),
      TEST(test_hold),
      TEST(test_read),
      TEST(test_hold_refuses),
      TEST(test_out_of_memory),
      TEST(test_shard_out_of_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
