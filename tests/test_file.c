/* Tests of core/base/file, lock and crc32c: whole reads, atomic writes, durable lines, folders, paths, checksums. */
#include "core/base/alloc.h"
#include "core/base/crc32c.h"
#include "core/base/file.h"
#include "core/base/lock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/qevo-test-file-XXXXXX";
static char path[256];

static const char *at(const char *name) {
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static int files_in_folder(void) {
  int count = 0;
  DIR *listing = opendir(folder);
  assert_non_null(listing);
  for (struct dirent *entry; (entry = readdir(listing));) count += entry->d_name[0] != '.';
  closedir(listing);
  return count;
}

static void assert_content(const char *file, const char *expected) {
  char *data;
  size_t bytes;
  assert_int_equal(qe_file_read(file, 1000, &data, &bytes), QE_OK);
  assert_int_equal(bytes, strlen(expected));
  assert_string_equal(data, expected);
  qe_free(data);
}

static int make_folder(void **state) {
  (void)state;
  strcpy(folder + strlen(folder) - 6, "XXXXXX");
  return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
  (void)state;
  char command[300];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  return system(command);
}

static void test_write_then_read(void **state) {
  (void)state;
  assert_int_equal(qe_file_write(at("a"), "one", 3), QE_OK);
  assert_content(at("a"), "one");
  qe_span spans[] = {{"tw", 2}, {NULL, 0}, {"o and more", 10}};
  assert_int_equal(qe_file_write_spans(at("a"), spans, 3), QE_OK);
  assert_content(at("a"), "two and more");
  assert_int_equal(qe_file_write(at("a"), "", 0), QE_OK);
  assert_content(at("a"), "");
  assert_int_equal(files_in_folder(), 1);
}

static void test_read_failures(void **state) {
  (void)state;
  char *data;
  assert_int_equal(qe_file_read(at("absent"), 10, &data, NULL), QE_NOT_FOUND);
  assert_non_null(strstr(qe_message(), "absent: cannot open: No such file"));
  assert_null(data);
  assert_int_equal(qe_file_write(at("a"), "12345", 5), QE_OK);
  assert_int_equal(qe_file_read(at("a"), 4, &data, NULL), QE_FORMAT);
  assert_non_null(strstr(qe_message(), "5 bytes, larger than the 4"));
  assert_int_equal(qe_file_read(at("a"), 5, &data, NULL), QE_OK);
  qe_free(data);
  assert_int_equal(qe_file_read(folder, 5, &data, NULL), QE_USAGE);
  assert_non_null(strstr(qe_message(), "directory"));
  assert_int_equal(qe_file_read("/dev/zero", 5000, &data, NULL), QE_FORMAT);
  assert_non_null(strstr(qe_message(), "/dev/zero: larger than the 5000"));
}

/* The size limit of the process stands in for a full disk. */
static void test_failed_write_keeps_old_file(void **state) {
  (void)state;
  static char large[8192];
  struct rlimit limit, small;
  assert_int_equal(qe_file_write(at("a"), "old", 3), QE_OK);
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
  small = limit;
  small.rlim_cur = 4096;
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  qe_status status = qe_file_write(at("a"), large, sizeof large);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
  assert_int_equal(status, QE_IO);
  assert_non_null(strstr(qe_message(), "/a: cannot write: File too large; raise"));
  assert_content(at("a"), "old");
  assert_int_equal(files_in_folder(), 1);
}

static void test_write_failures(void **state) {
  (void)state;
  assert_int_equal(qe_file_write(at("no/such/folder"), "x", 1), QE_NOT_FOUND);
  assert_non_null(strstr(qe_message(), "check the path"));
  assert_int_equal(mkdir(at("sub"), 0777), 0);
  assert_int_equal(qe_file_write(at("sub"), "x", 1), QE_USAGE); /* a folder stands there */
  assert_int_equal(files_in_folder(), 1);
  assert_int_equal(qe_file_append_line("/dev/full", "x"), QE_IO);
  assert_non_null(strstr(qe_message(), "/dev/full: cannot append: No space left on device; free some space"));
}

static void test_write_survives_failed_allocations(void **state) {
  (void)state;
  qe_status status = QE_NO_MEMORY;
  int failures = 0;
  for (int64_t nth = 1; status != QE_OK; nth++) {
    assert_int_equal(qe_file_write(at("a"), "old", 3), QE_OK);
    qe_alloc_fail_nth(nth);
    status = qe_file_write(at("a"), "new", 3);
    qe_alloc_fail_nth(0);
    if (status == QE_OK) break;
    failures++;
    assert_int_equal(status, QE_NO_MEMORY);
    assert_content(at("a"), "old");
    assert_int_equal(files_in_folder(), 1);
  }
  assert_int_equal(failures, 2);
  assert_content(at("a"), "new");
}

static void test_append_line(void **state) {
  (void)state;
  assert_int_equal(qe_file_append_line(at("log"), "first"), QE_OK);
  assert_int_equal(qe_file_append_line(at("log"), "second"), QE_OK);
  assert_content(at("log"), "first\nsecond\n");
  assert_int_equal(qe_file_write(at("log"), "first\nsec", 9), QE_OK);
  assert_int_equal(qe_file_append_line(at("log"), "third"), QE_OK);
  assert_content(at("log"), "first\nsec\nthird\n");
  assert_int_equal(qe_file_append_line(at("no/log"), "x"), QE_NOT_FOUND);
  qe_alloc_fail_nth(1);
  qe_status status = qe_file_append_line(at("log"), "x");
  qe_alloc_fail_nth(0);
  assert_int_equal(status, QE_NO_MEMORY);
  assert_content(at("log"), "first\nsec\nthird\n");
}

/* What a full disk left of an appended piece is cut off again. */
static void test_failed_append_leaves_nothing(void **state) {
  (void)state;
  static char large[8192];
  struct rlimit limit, small;
  assert_int_equal(qe_file_append(at("log"), "first\n", 6, true), QE_OK);
  memset(large, 'x', sizeof large - 1);
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
  small = limit;
  small.rlim_cur = 4096;
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  qe_status status = qe_file_append_line(at("log"), large);
  qe_status piece = qe_file_append(at("log"), large, sizeof large, false);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
  assert_int_equal(status, QE_IO);
  assert_int_equal(piece, QE_IO);
  assert_content(at("log"), "first\n");
}

static void test_small_changes(void **state) {
  (void)state;
  char other[256];
  assert_int_equal(qe_file_bytes(at("log")), -1);
  assert_int_equal(qe_file_cut(at("log"), 3), QE_OK);
  assert_int_equal(qe_file_remove(at("log")), QE_OK);
  assert_int_equal(qe_file_sync(at("log")), QE_NOT_FOUND);
  assert_int_equal(qe_file_append(at("log"), "first", 5, false), QE_OK);
  assert_int_equal(qe_file_sync(at("log")), QE_OK);
  assert_int_equal(qe_file_cut(at("log"), 7), QE_OK);
  assert_int_equal(qe_file_bytes(at("log")), 5);
  assert_int_equal(qe_file_cut(at("log"), 3), QE_OK);
  assert_content(at("log"), "fir");
  snprintf(other, sizeof other, "%s/other", folder);
  assert_int_equal(qe_file_rename(at("log"), other), QE_OK);
  assert_int_equal(qe_file_rename(at("log"), other), QE_NOT_FOUND);
  assert_int_equal(qe_folder_sync(folder), QE_OK);
  assert_content(other, "fir");
  assert_int_equal(qe_file_remove(other), QE_OK);
  assert_int_equal(files_in_folder(), 0);
}

static void test_lock(void **state) {
  (void)state;
  int lock, second;
  char own[64];
  assert_int_equal(qe_folder_lock(folder, &lock), QE_OK);
  assert_int_equal(qe_folder_lock(folder, &second), QE_USAGE);
  snprintf(own, sizeof own, "is in use by process %ld on ", (long)getpid());
  assert_non_null(strstr(qe_message(), own));
  qe_folder_unlock(lock);
  assert_int_equal(qe_folder_lock(folder, &lock), QE_OK);
  qe_folder_unlock(lock);
  assert_int_equal(qe_folder_lock(at("absent"), &lock), QE_NOT_FOUND);
  assert_int_equal(lock, -1);
  qe_folder_unlock(lock);
}

/* The check value of the catalogue of CRCs for "123456789", the vectors of RFC 3720, B.4, and any cut in two. */
static void test_crc32c(void **state) {
  (void)state;
  unsigned char bytes[64] = {0};
  assert_int_equal(qe_crc32c(0, "123456789", 9), 0xE3069283u);
  assert_int_equal(qe_crc32c(0, bytes, 32), 0x8A9136AAu);
  for (unsigned i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)i;
  assert_int_equal(qe_crc32c(0, bytes, 32), 0x46DD794Eu);
  for (size_t cut = 0; cut <= sizeof bytes; cut++)
    assert_int_equal(qe_crc32c(qe_crc32c(0, bytes, cut), bytes + cut, sizeof bytes - cut), qe_crc32c(0, bytes, 64));
}

static void test_make_folders(void **state) {
  (void)state;
  assert_false(qe_folder_exists(at("x/y/z")));
  assert_int_equal(qe_make_folders(at("x/y//z/")), QE_OK);
  assert_int_equal(qe_make_folders(at("x/y/z")), QE_OK);
  assert_true(qe_folder_exists(at("x/y/z")));
  assert_int_equal(qe_file_write(at("x/file"), "", 0), QE_OK);
  assert_true(qe_file_exists(at("x/file")));
  assert_false(qe_folder_exists(at("x/file")));
  assert_int_equal(qe_make_folders(at("x/file/more")), QE_USAGE);
  assert_non_null(strstr(qe_message(), "x/file: cannot make the folder: File exists"));
  assert_int_equal(qe_make_folders(""), QE_OK);
  assert_int_equal(qe_make_folders("/"), QE_OK);
}

static void assert_new_text(char *text, const char *expected) {
  assert_non_null(text);
  assert_string_equal(text, expected);
  qe_free(text);
}

static void test_paths(void **state) {
  (void)state;
  assert_new_text(qe_path_join("a", "b"), "a/b");
  assert_new_text(qe_path_join("a/", "b"), "a/b");
  assert_new_text(qe_path_join("", "b"), "b");
  assert_new_text(qe_path_join("a", "/b"), "/b");
  assert_new_text(qe_path_folder("a/b/c"), "a/b");
  assert_new_text(qe_path_folder("c"), ".");
  assert_new_text(qe_path_folder("/c"), "/");
  assert_string_equal(qe_path_name("a/b"), "b");
  assert_string_equal(qe_path_name("b"), "b");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(test_write_then_read),
      TEST(test_read_failures),
      TEST(test_failed_write_keeps_old_file),
      TEST(test_write_failures),
      TEST(test_write_survives_failed_allocations),
      TEST(test_append_line),
      TEST(test_failed_append_leaves_nothing),
      TEST(test_small_changes),
      TEST(test_lock),
      TEST(test_crc32c),
      TEST(test_make_folders),
      TEST(test_paths),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
