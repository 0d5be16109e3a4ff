/* The command on a folder of images: train, resume, eval, a search that has no room for them, the bench, wrong turns.
 */
#define _GNU_SOURCE /* nftw */
#include "tests/images.h"
#include "tests/shell.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT = 1 << 16 };
static char out[OUTPUT];

static int set_up(void **state) {
  if (images_set_up(state)) return -1;
  put_tree("set", 2, 12, 4);
  return 0;
}

/* Run qevo-gpu with arguments in which every @ stands for the test's folder; stdout and stderr go to `out`. */
static int run(const char *arguments) {
  char command[2048];
  size_t used = (size_t)snprintf(command, sizeof command, "OMP_WAIT_POLICY=passive " QE_BINARY_DIR "/qevo-gpu ");
  for (const char *at = arguments; *at; at++)
    used += (size_t)(*at == '@' ? snprintf(command + used, sizeof command - used, "%s", images_root)
                                : snprintf(command + used, sizeof command - used, "%c", *at));
  snprintf(command + used, sizeof command - used, " 2>&1");
  return shell_run(command, out, OUTPUT);
}

static void assert_run(const char *arguments, int code, const char *expected) {
  shell_expect(arguments, run(arguments), code, out, expected);
}

#define SET " --data folder:@/set --threads 1 --loader-threads 2 "
#define TRAIN "train qat --model mlp --image-size 16 --batch 8 --float-epochs 0" SET

static void test_train_and_eval(void **state) {
  (void)state;
  assert_run(TRAIN "--epochs 1 --out @/run", 0, "8 images (");
  char *config;
  OK(qe_file_read(below("run/config.yaml"), 1 << 20, &config, NULL));
  assert_non_null(strstr(config, "\npad: 0 # default of image folders\n")); /* so a resumed run pads none either */
  qe_free(config);
  assert_run("train qat --resume --epochs 2 --out @/run", 0, "resumed after epoch 1");
  assert_run("eval @/run/last.safetensors" SET, 0, "8 test images"); /* at the model's size */
  assert_run("eval --integer @/run/last.safetensors" SET, 0, "8 test images");
  assert_run("eval @/run/last.safetensors --image-size 20" SET, 2, "takes 16x16x3 images");
}

/* Images that are decoded when they are needed, from another folder than the one in which the path was typed. */
static void test_report(void **state) {
  (void)state;
  char here[PATH_MAX];
  assert_non_null(getcwd(here, sizeof here));
  assert_int_equal(chdir(images_root), 0);
  assert_run(
      "train qat --model mlp --image-size 16 --batch 8 --float-epochs 0 --epochs 1 --threads 1 --data folder:set "
      "--out run",
      0, "8 images (");
  assert_int_equal(chdir(here), 0);
  assert_run("report @/run --threads 1 --json", 0, "\"float_twin\":");
  char *page;
  OK(qe_file_read(below("run/report.html"), 1 << 26, &page, NULL));
  assert_non_null(strstr(page, "class1</th>"));
  qe_free(page);
  assert_run("report @/run/last.safetensors --json --out @/alone.html" SET, 0, "\"float_twin\":"); /* at its size */
  assert_run("report @/run/last.safetensors --image-size 20 --out @/alone.html" SET, 0, "takes 16x16x3 images");
  assert_run("train qat --model mlp --batch 8 --dry-run --out @/run" SET, 2, "run holds a run already");
  assert_run("eval @/run" SET, 0, "best.safetensors in it is taken");
}

static void test_info(void **state) {
  (void)state;
  assert_run("data info folder:@/set", 0, "\nclass1 ");
  assert_run("data info folder:@/set --check", 0, "every image can be decoded");
  put_text("set/train/class1/003.jpg", "\xff\xd8\xff\xe0\x01");
  put_text("set/val/class0/000.jpg", "GIF89a");
  assert_run("data info folder:@/set", 0, "--check");
  assert_run("data info folder:@/set --check", 2, "2 cannot be read:\n");
  assert_non_null(strstr(out, "/train/class1/003.jpg: "));
  assert_non_null(strstr(out, "/val/class0/000.jpg: neither JPEG nor PNG"));
  assert_true(strstr(out, "003.jpg") < strstr(out, "000.jpg"));
  assert_run("data info folder:@/set --check --json --loader-threads 3", 2, "\"bad\":[{\"file\":");
}

static void test_search(void **state) {
  (void)state;
  assert_run("train coevolution --model mlp --image-size 300 --data-memory 1" SET, 2, "make --image-size smaller");
  assert_run(
      "train coevolution --model mlp --image-size 16 --batch 8 --float-epochs 1 --float-rate 0.01 --budget 20000 "
      "--out @/run" SET,
      0, "8 images (");
  assert_run("report @/run --threads 1 --json", 0, "\"state\":\"finished\"");
  assert_run("eval @/run/best.safetensors" SET, 0, "8 test images");
}

static void test_bench(void **state) {
  (void)state;
  assert_int_equal(run("bench data --repeat 2 --json --image-size 16" SET "| tail -n 1"), 0);
  cJSON *list = cJSON_Parse(strchr(out, '['));
  assert_int_equal(cJSON_GetArraySize(list), 2); /* not all are JPEGs: libturbojpeg alone is left out */
  const cJSON *row = cJSON_GetArrayItem(list, 0);
  assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(row, "case")), "folder-training");
  assert_true(cJSON_IsTrue(cJSON_GetObjectItem(row, "parity")));
  assert_true(cJSON_GetNumberValue(cJSON_GetObjectItem(row, "value")) > 0);
  cJSON_Delete(list);
}

static void test_wrong_turns(void **state) {
  (void)state;
  assert_run("train qat --data folder:@/nowhere", 2, "no such folder");
  assert_run("train qat --data folder:@/set/train", 2, "a folder train");
  assert_run("train qat --data folder", 2, "and folder:PATH");
  put_text("set/train/class1/003.jpg", "\xff\xd8\xff\xe0\x01");
  assert_run(TRAIN "--epochs 1", 2, "/train/class1/003.jpg: ");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, images_tear_down)
  const struct CMUnitTest tests[] = {TEST(test_train_and_eval), TEST(test_report), TEST(test_info),
                                     TEST(test_search),         TEST(test_bench),  TEST(test_wrong_turns)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
