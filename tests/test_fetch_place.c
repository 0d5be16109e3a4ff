/* Where a data set goes: whole or not at all, other files left alone, one process at a time; and its check. */
#include "tests/fetch_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

static char mirror[96];
static const char *const from_mirror[] = {mirror, NULL};

static int set_up(void **state) {
  if (fetch_set_up(state) != 0) return -1;
  snprintf(mirror, sizeof mirror, "%s/mirror", root);
  write_bytes(at_root("mirror/set.tar.gz"), packed.data, packed.bytes);
  return 0;
}

/* A set that is wrong, and a file beside it that is the user's. */
static void write_wrong_set(const char *folder) {
  char path[256];
  snprintf(path, sizeof path, "%s/one.bin", folder);
  write_bytes(path, two, TWO);
  snprintf(path, sizeof path, "%s/my notes", folder);
  write_bytes(path, "mine", 4);
}

static void test_again(void **state) {
  (void)state;
  gets(from_mirror);
  gets(from_mirror); /* in place of the right one */
}

static void test_wrong_set_is_replaced(void **state) {
  (void)state;
  write_wrong_set(at_root("data/the-set"));
  gets(from_mirror);
  assert_bytes(at_root("data/the-set/my notes"), "mine", 4);
}

/* A run that died between the two renames: the old set comes back, then the new one takes its place. */
static void test_replacement_that_was_cut_off(void **state) {
  (void)state;
  write_wrong_set(at_root("data/the-set.part/replaced"));
  write_bytes(at_root("data/the-set.part/unpacked/one.bin"), one, 1000);
  const char *const nothing[] = {"file:///nowhere", NULL};
  get_fails(nothing, QE_IO, "no such file", NULL);
  assert_bytes(at_root("data/the-set/one.bin"), two, TWO);
  assert_bytes(at_root("data/the-set/my notes"), "mine", 4);
  gets(from_mirror);
  assert_bytes(at_root("data/the-set/my notes"), "mine", 4);
}

/* A run that died after the second rename: what is not the set's is carried over. */
static void test_carrying_over_that_was_cut_off(void **state) {
  (void)state;
  gets(from_mirror);
  write_wrong_set(at_root("data/the-set.part/replaced"));
  gets(from_mirror);
  assert_bytes(at_root("data/the-set/my notes"), "mine", 4);
}

static void test_link_to_another_folder(void **state) {
  (void)state;
  qe_get_request request = request_of(from_mirror);
  char *folder;
  write_wrong_set(at_root("large-disk/images"));
  assert_int_equal(qe_make_folders(at_root("data")), QE_OK);
  assert_int_equal(symlink("../large-disk/images", at_root("data/the-set")), 0);
  if (qe_get(&set, &request, &folder) != QE_OK) fail_msg("%s", qe_message());
  assert_string_equal(folder, at_root("large-disk/images"));
  qe_free(folder);
  assert_there();
  struct stat info;
  assert_int_equal(lstat(at_root("data/the-set"), &info), 0);
  assert_true(S_ISLNK(info.st_mode));
  assert_bytes(at_root("data/the-set/my notes"), "mine", 4);
  assert_false(qe_file_exists(at_root("large-disk/images.part")));
}

static void test_one_process_at_a_time(void **state) {
  (void)state;
  write_bytes(at_root("data/the-set.part/lock"), "", 0);
  int other = open(at_root("data/the-set.part/lock"), O_RDWR | O_CLOEXEC);
  assert_int_equal(flock(other, LOCK_EX), 0);
  get_fails(from_mirror, QE_IO, "another process is getting set", NULL);
  close(other);
  gets(from_mirror);
}

static void test_places_that_cannot_be(void **state) {
  (void)state;
  write_bytes(at_root("data"), "a file", 6);
  get_fails(from_mirror, QE_IO, "--data-dir or QEVO_DATA_DIR", at_root("data"), NULL);
  assert_int_equal(unlink(at_root("data")), 0);
  write_bytes(at_root("data/the-set"), "a file", 6);
  get_fails(from_mirror, QE_IO, "a file of this name", "move it away", NULL);
  assert_int_equal(unlink(at_root("data/the-set")), 0);
  if (geteuid() == 0) return; /* root may write everywhere */
  assert_int_equal(chmod(at_root("data"), 0500), 0);
  get_fails(from_mirror, QE_IO, "the-set.part: cannot make the folder: Permission denied", NULL);
  assert_int_equal(chmod(at_root("data"), 0700), 0);
}

/* No disk has room for this one: said before anything is downloaded. */
static void test_room_is_checked_first(void **state) {
  (void)state;
  static const qe_remote_file huge_file = {"huge.bin", INT64_MAX / 4};
  static const qe_remote_archive huge_archive = {"huge.gz", INT64_MAX / 4, "", NULL, &huge_file, 1};
  const qe_remote huge = {"huge", "huge", "", from_mirror, &huge_archive, 1};
  qe_get_request request = request_of(NULL);
  char *folder;
  assert_int_equal(qe_get(&huge, &request, &folder), QE_IO);
  assert_non_null(strstr(qe_message(), "MiB are needed"));
  assert_non_null(strstr(qe_message(), "free some space"));
  assert_false(qe_file_exists(at_root("data/huge.part")));
}

/* Killed at many moments, of replacing a set above all: it is there whole, or not at all, and nothing of others' is
 * lost. */
static void test_killed_at_any_moment(void **state) {
  (void)state;
  int there = 0, gone = 0;
  write_wrong_set(at_root("data/the-set"));
  gets(from_mirror);
  for (int round = 0; round < 40; round++) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      qe_get_request request = request_of(from_mirror);
      char *folder;
      for (;;)
        if (qe_get(&set, &request, &folder) != QE_OK) _exit(1);
    }
    usleep((useconds_t)(500 + round * 7919 % 23000));
    assert_int_equal(kill(child, SIGKILL), 0);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status)); /* it did not fail before */
    qe_check found;
    if (qe_folder_exists(at_root("data/the-set"))) {
      there++;
      if (qe_get_check(&set, at_root("data/the-set"), NULL, &found) != QE_OK) fail_msg("%s", qe_message());
      assert_int_equal(found, QE_CHECK_SUMS);
    } else {
      gone++;
    }
    assert_true(qe_file_exists(at_root("data/the-set/my notes")) ||
                qe_file_exists(at_root("data/the-set.part/replaced/my notes")));
  }
  print_message("whole %d times, between the two renames %d times\n", there, gone);
  gets(from_mirror);
  assert_bytes(at_root("data/the-set/my notes"), "mine", 4);
}

/* ---- the check ---- */

static void check_fails(qe_status status, const char *text) {
  qe_check found;
  assert_int_equal(qe_get_check(&set, at_root("data/the-set"), NULL, &found), status);
  if (!strstr(qe_message(), text)) fail_msg("'%s' is not in: %s", text, qe_message());
}

static void test_check(void **state) {
  (void)state;
  qe_check found;
  gets(from_mirror);
  one[7] ^= 1;
  write_bytes(at_root("data/the-set/one.bin"), one, ONE);
  check_fails(QE_FORMAT, "one.bin: changed or damaged: SHA-256 ");
  assert_int_equal(unlink(at_root("data/the-set/SHA256SUMS")), 0);
  assert_int_equal(qe_get_check(&set, at_root("data/the-set"), NULL, &found), QE_OK);
  assert_int_equal(found, QE_CHECK_SIZES);
  write_bytes(at_root("data/the-set/SHA256SUMS"), "nonsense\n\n  one.bin\n", 20);
  assert_int_equal(qe_get_check(&set, at_root("data/the-set"), NULL, &found), QE_OK);
  assert_int_equal(found, QE_CHECK_SIZES);
  write_bytes(at_root("data/the-set/one.bin"), one, ONE - 1);
  check_fails(QE_FORMAT, "149999 bytes, 150000 are expected");
  assert_int_equal(unlink(at_root("data/the-set/two.bin")), 0);
  write_bytes(at_root("data/the-set/one.bin"), one, ONE);
  check_fails(QE_NOT_FOUND, "two.bin");
  assert_int_equal(mkdir(at_root("data/the-set/two.bin"), 0700), 0);
  check_fails(QE_FORMAT, "not a plain file");
  assert_int_equal(unlink(at_root("data/the-set/names.txt")), 0); /* nothing depends on it */
}

/* A file that is left compressed is as good. */
static void test_check_compressed(void **state) {
  (void)state;
  char text[QE_DIGEST_TEXT];
  qe_check found;
  gzip(one, ONE, &packed);
  sum_of(packed.data, packed.bytes, text);
  const qe_remote_archive archive = {"one.bin.gz", (int64_t)packed.bytes, text, NULL, set_files, 1};
  const qe_remote single = {"single", "single", "", nowhere, &archive, 1};
  write_bytes(at_root("one.bin.gz"), packed.data, packed.bytes);
  assert_int_equal(qe_get_check(&single, root, NULL, &found), QE_OK);
  assert_int_equal(found, QE_CHECK_SUMS);
  packed.data[9] ^= 1;
  write_bytes(at_root("one.bin.gz"), packed.data, packed.bytes);
  assert_int_equal(qe_get_check(&single, root, NULL, &found), QE_FORMAT);
}

/* ---- out of memory ---- */

/* Every allocation fails in turn: an error or the whole set, never a part of it, and the next call gets it. */
static void test_out_of_memory(void **state) {
  (void)state;
  int failed = 0;
  for (int64_t nth = 1, before = -1; before != 0; nth++) {
    qe_get_request request = request_of(from_mirror);
    char *folder = NULL;
    qe_check found;
    int64_t start = qe_alloc_count();
    qe_alloc_fail_nth(nth);
    qe_status status = qe_get(&set, &request, &folder);
    before = qe_alloc_count() - start < nth ? 0 : 1; /* 0: it needed fewer */
    qe_alloc_fail_nth(0);
    qe_free(folder);
    if (status != QE_OK && status != QE_NO_MEMORY) fail_msg("allocation %lld: %s", (long long)nth, qe_message());
    failed += status == QE_NO_MEMORY;
    if (qe_file_exists(at_root("data/the-set")))
      assert_int_equal(qe_get_check(&set, at_root("data/the-set"), NULL, &found), QE_OK);
  }
  assert_true(failed > 20);
  gets(from_mirror);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, fetch_tear_down)
  const struct CMUnitTest tests[] = {
      CASE(test_again),
      CASE(test_wrong_set_is_replaced),
      CASE(test_replacement_that_was_cut_off),
      CASE(test_carrying_over_that_was_cut_off),
      CASE(test_link_to_another_folder),
      CASE(test_one_process_at_a_time),
      CASE(test_places_that_cannot_be),
      CASE(test_room_is_checked_first),
      CASE(test_killed_at_any_moment),
      CASE(test_check),
      CASE(test_check_compressed),
      CASE(test_out_of_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
