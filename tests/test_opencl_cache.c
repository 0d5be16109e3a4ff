/* The opencl backend's cache of built programs: found again, never trusted when it is not whole, never missed when it
 * cannot be. Every run must give right results; how often kernels are built from their sources is counted. */
#include "core/base/file.h"
#include "tests/opencl_rig.h"

#include <sys/stat.h>

static char root[FIXTURE_PATH];

static char *cache_folder(void) {
  static char path[FIXTURE_PATH];
  assert_true(snprintf(path, sizeof path, "%s/opencl", root) < FIXTURE_PATH);
  return path;
}

static int new_cache(void **state) {
  (void)state;
  folder_new(root);
  return setenv("QEVO_CACHE_DIR", root, 1);
}

static int remove_cache(void **state) {
  (void)state;
  if (qe_folder_exists(cache_folder())) folder_remove(cache_folder());
  folder_remove(root);
  return unsetenv("QEVO_CACHE_DIR");
}

/* Open, run, close; how often kernels were built meanwhile. */
static int builds_of_a_run(const char *limits) {
  static uint64_t seed;
  qe_device *device = NULL;
  bool right = false;
  int before = opencl_builds;
  OK(opencl_open(limits, &device));
  OK(opencl_concat(device, ++seed, &right));
  qe_device_close(device);
  assert_true(right);
  return opencl_builds - before;
}

/* The path of an entry (the nth of the folder), new text. */
static char *entry_path(int nth) {
  DIR *folder = opendir(cache_folder());
  char *path = NULL;
  assert_non_null(folder);
  for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
    if (entry->d_name[0] != '.' && nth-- == 0) path = qe_path_join(cache_folder(), entry->d_name);
  closedir(folder);
  return path;
}

static int entries(void) {
  int count = 0;
  for (char *path; (path = entry_path(count)); count++) qe_free(path);
  return count;
}

static char *read_entry(const char *path, size_t *bytes) {
  char *data = NULL;
  OK(qe_file_read(path, SIZE_MAX, &data, bytes));
  return data;
}

static void built_once(void **state) {
  (void)state;
  assert_int_equal(builds_of_a_run(NULL), 1);
  assert_int_equal(entries(), 1);
  assert_int_equal(builds_of_a_run(NULL), 0);
  assert_int_equal(builds_of_a_run("group=16"), 1); /* other options, another entry */
  assert_int_equal(entries(), 2);
  assert_int_equal(builds_of_a_run("group=16"), 0);
  assert_int_equal(builds_of_a_run(NULL), 0);
}

/* Write the bytes over the one entry; the next run must build, the one after it find a good entry again. */
static void must_rebuild(const char *path, const void *data, size_t bytes, const char *what, size_t at) {
  OK(qe_file_write(path, data, bytes));
  if (builds_of_a_run(NULL) != 1) fail_msg("an entry %s at %zu was trusted", what, at);
  if (builds_of_a_run(NULL) != 0) fail_msg("an entry %s at %zu was not replaced", what, at);
}

static void damaged_bytes(void **state) {
  (void)state;
  size_t bytes;
  assert_int_equal(builds_of_a_run(NULL), 1);
  char *path = entry_path(0), *data = read_entry(path, &bytes);
  /* Magic, length of the key, of the data, checksum, key, and the data's start, middle and end. */
  size_t place[] = {0, 8, 15, 16, 23, 24, 31, 32, 40, 200, 600, bytes / 2, bytes - 1};
  for (size_t i = 0; i < sizeof place / sizeof *place; i++) {
    data[place[i]] ^= 0x40;
    must_rebuild(path, data, bytes, "damaged", place[i]);
    data[place[i]] ^= 0x40;
  }
  qe_free(data);
  qe_free(path);
}

static void other_lengths(void **state) {
  (void)state;
  size_t bytes;
  assert_int_equal(builds_of_a_run(NULL), 1);
  char *path = entry_path(0), *data = read_entry(path, &bytes);
  size_t length[] = {0, 1, 31, 32, 100, bytes / 2, bytes - 1};
  for (size_t i = 0; i < sizeof length / sizeof *length; i++) must_rebuild(path, data, length[i], "cut", length[i]);
  must_rebuild(path, data, bytes + 1, "lengthened", bytes); /* by the 0 that qe_file_read puts behind */
  must_rebuild(path, "{}", 2, "of text", 0);
  qe_free(data);
  qe_free(path);
}

static void swapped_entries(void **state) {
  (void)state;
  size_t bytes[2];
  char *path[2], *data[2];
  assert_int_equal(builds_of_a_run(NULL), 1);
  assert_int_equal(builds_of_a_run("group=16"), 1);
  for (int i = 0; i < 2; i++) {
    path[i] = entry_path(i);
    data[i] = read_entry(path[i], &bytes[i]);
  }
  for (int i = 0; i < 2; i++) OK(qe_file_write(path[i], data[1 - i], bytes[1 - i]));
  for (int builds = 1; builds >= 0; builds--) {
    assert_int_equal(builds_of_a_run(NULL), builds);
    assert_int_equal(builds_of_a_run("group=16"), builds);
  }
  for (int i = 0; i < 2; i++) {
    qe_free(path[i]);
    qe_free(data[i]);
  }
}

static void an_unreadable_entry(void **state) {
  (void)state;
  assert_int_equal(builds_of_a_run(NULL), 1);
  char *path = entry_path(0);
  assert_int_equal(unlink(path), 0);
  assert_int_equal(mkdir(path, 0777), 0);
  assert_int_equal(builds_of_a_run(NULL), 1);
  assert_int_equal(builds_of_a_run(NULL), 1); /* a folder is in the way of the new entry */
  assert_int_equal(rmdir(path), 0);
  qe_free(path);
}

static void no_folder_to_write_to(void **state) {
  (void)state;
  char blocked[FIXTURE_PATH + 16];
  snprintf(blocked, sizeof blocked, "%s/file", root);
  OK(qe_file_write(blocked, "", 0));
  setenv("QEVO_CACHE_DIR", blocked, 1); /* also for root, who may write to read-only folders */
  assert_int_equal(builds_of_a_run(NULL), 1);
  assert_int_equal(builds_of_a_run(NULL), 1);
  setenv("QEVO_CACHE_DIR", root, 1);
}

static void a_read_only_folder_is_read(void **state) {
  (void)state;
  assert_int_equal(builds_of_a_run(NULL), 1);
  assert_int_equal(chmod(cache_folder(), 0555), 0);
  assert_int_equal(builds_of_a_run(NULL), 0);
  assert_int_equal(builds_of_a_run("group=16"), 1);
  assert_int_equal(chmod(cache_folder(), 0755), 0);
}

/* With `variable` at the test's folder the cache lies in folders[0] there; all of `folders` are removed again. */
static void check_users_folder(const char *variable, const char *const *folders) {
  char path[FIXTURE_PATH];
  setenv(variable, root, 1);
  assert_int_equal(builds_of_a_run(NULL), 1);
  assert_int_equal(builds_of_a_run(NULL), 0);
  for (int i = 0; folders[i]; i++) {
    assert_true(snprintf(path, sizeof path, "%s/%s", root, folders[i]) < FIXTURE_PATH);
    folder_remove(path);
  }
  unsetenv(variable);
}

static void the_users_cache_folders(void **state) {
  (void)state;
  opencl_backend();
  static const char *const variables[] = {"XDG_CACHE_HOME", "HOME"};
  char *saved[2];
  for (int i = 0; i < 2; i++) {
    saved[i] = getenv(variables[i]) ? qe_strdup(getenv(variables[i])) : NULL;
    unsetenv(variables[i]);
  }
  unsetenv("QEVO_CACHE_DIR");
  check_users_folder("XDG_CACHE_HOME", (const char *const[]){"qevo-gpu/opencl", "qevo-gpu", NULL});
  check_users_folder("HOME", (const char *const[]){".cache/qevo-gpu/opencl", ".cache/qevo-gpu", ".cache", NULL});
  assert_int_equal(builds_of_a_run(NULL), 1); /* no place at all */
  for (int i = 0; i < 2; i++) {
    if (saved[i]) setenv(variables[i], saved[i], 1);
    qe_free(saved[i]);
  }
}

int main(void) {
#define CACHE_TEST(test) cmocka_unit_test_setup_teardown(test, new_cache, remove_cache)
  const struct CMUnitTest tests[] = {
      CACHE_TEST(built_once),
      CACHE_TEST(damaged_bytes),
      CACHE_TEST(other_lengths),
      CACHE_TEST(swapped_entries),
      CACHE_TEST(an_unreadable_entry),
      CACHE_TEST(no_folder_to_write_to),
      CACHE_TEST(a_read_only_folder_is_read),
      CACHE_TEST(the_users_cache_folders),
  };
  return cmocka_run_group_tests_name("opencl cache", tests, opencl_setup, opencl_teardown);
}
