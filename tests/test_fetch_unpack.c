/* Unpacking: hostile, foreign and damaged archives write nothing outside the folder, and no set comes of them. */
#include "tests/fetch_fixture.h"
#include "tools/fetch/unpack.h"

#include <sys/wait.h>

static blob tar;
static char digests[3][QE_DIGEST_TEXT];

/* Unpack the archive, compressed, into root/in. */
static qe_status unpack(const blob *archive) {
  pack(archive);
  write_bytes(at_root("set.tar.gz"), packed.data, packed.bytes);
  assert_int_equal(qe_make_folders(at_root("in")), QE_OK);
  return qe_archive_unpack(&set_archive, at_root("set.tar.gz"), at_root("in"), NULL, digests);
}

static void clear(void) {
  static const char *const names[] = {"in/one.bin", "in/two.bin", "in/names.txt"};
  for (int at = 0; at < 3; at++) unlink(at_root(names[at]));
}

static void refused(const char *text) {
  tar_end(&tar);
  qe_status status = unpack(&tar);
  if (status != QE_FORMAT || !strstr(qe_message(), text))
    fail_msg("%s, '%s' is not in: %s", qe_status_name(status), text, qe_message());
  clear();
  assert_int_equal(rmdir(at_root("in")), 0); /* nothing but the wanted names was ever in it */
}

static void test_whole(void **state) {
  char text[QE_DIGEST_TEXT];
  (void)state;
  tar_set(&tar);
  tar_end(&tar);
  if (unpack(&tar) != QE_OK) fail_msg("%s", qe_message());
  assert_bytes(at_root("in/one.bin"), one, ONE);
  assert_bytes(at_root("in/two.bin"), two, TWO);
  sum_of(one, ONE, text);
  assert_string_equal(digests[0], text);
  assert_false(qe_file_exists(at_root("in/readme.html")));
  assert_int_equal(unpack(&tar), QE_IO); /* what is there is never written over */
  assert_non_null(strstr(qe_message(), "one.bin: cannot make it"));
}

static void test_members_that_lead_out(void **state) {
  static const char *const names[] = {"../evil", "inner/../../evil",  "/tmp/qevo-evil", "inner/..",
                                      "..",      "inner//../../evil", "./../evil",      "/inner/one.bin"};
  (void)state;
  for (size_t at = 0; at < sizeof names / sizeof *names; at++) {
    tar_set(&tar);
    tar_add(&tar, '0', names[at], NULL, "evil", 4, 4);
    refused("leads out of the folder");
    assert_false(qe_file_exists(at_root("evil")));
    assert_false(qe_file_exists("/tmp/qevo-evil"));
  }
  tar_set(&tar);
  tar_add(&tar, '0', "inner/..two", NULL, "good", 4, 4); /* only looks like it */
  tar_add(&tar, '0', "inner/a../b", NULL, "good", 4, 4);
  tar_end(&tar);
  if (unpack(&tar) != QE_OK) fail_msg("%s", qe_message());
}

static void test_links_and_devices(void **state) {
  (void)state;
  for (const char *kind = "1234"; *kind; kind++) {
    tar.bytes = 0;
    tar_add(&tar, *kind, "inner/one.bin", "/etc/passwd", NULL, 0, 0);
    refused("is a link or a device");
    tar.bytes = 0;
    tar_add(&tar, *kind, "inner", "/tmp", NULL, 0, 0); /* so that inner/one.bin would be /tmp/one.bin */
    tar_add(&tar, '0', "inner/one.bin", NULL, one, ONE, ONE);
    refused("is a link or a device");
  }
}

static void test_sizes(void **state) {
  (void)state;
  tar.bytes = 0;
  tar_add(&tar, '0', "inner/one.bin", NULL, one, 1000, 077777777777ull); /* 8 GiB declared */
  refused("one.bin has not the 150000 bytes");
  assert_false(qe_file_exists(at_root("in")));
  tar.bytes = 0;
  tar_add(&tar, '0', "inner/one.bin", NULL, one, ONE - 1, ONE - 1);
  refused("one.bin has not the 150000 bytes");
  tar.bytes = 0;
  tar_add(&tar, '0', "inner/names.txt", NULL, one, QE_UNPACK_TEXT + 1, QE_UNPACK_TEXT + 1);
  refused("names.txt has more than");
  tar_set(&tar);
  tar_add(&tar, '0', "unwanted", NULL, NULL, 0, 077777777777ull);
  refused("no part of the data set");
  tar.bytes = 0;
  for (int at = 0; at <= QE_UNPACK_MEMBERS; at++) tar_add(&tar, '0', "x", NULL, NULL, 0, 0);
  refused("more than 1000 members");
}

static void test_missing_and_twice(void **state) {
  (void)state;
  tar.bytes = 0;
  tar_add(&tar, '0', "inner/one.bin", NULL, one, ONE, ONE);
  refused("two.bin is not in it");
  tar.bytes = 0;
  tar_add(&tar, '0', "one.bin", NULL, one, ONE, ONE); /* not in the folder `inner` */
  refused("one.bin is not in it");
  tar_set(&tar);
  tar_add(&tar, '0', "inner/two.bin", NULL, two, TWO, TWO);
  refused("two.bin is in it twice");
  tar.bytes = 0;
  refused("one.bin is not in it");
}

/* A member's name must not reach the terminal as it is. */
static void test_names_in_messages(void **state) {
  (void)state;
  tar.bytes = 0;
  tar_add(&tar, '0', "../\x1b[31mred\n", NULL, NULL, 0, 0);
  refused("'../?[31mred?'");
}

static void test_damaged(void **state) {
  (void)state;
  tar_set(&tar);
  tar_end(&tar);
  pack(&tar);
  for (size_t bytes = 0; bytes < packed.bytes; bytes += bytes < 40 ? 1 : packed.bytes / 7) {
    write_bytes(at_root("set.tar.gz"), packed.data, bytes);
    assert_int_equal(qe_make_folders(at_root("in")), QE_OK);
    qe_status status = qe_archive_unpack(&set_archive, at_root("set.tar.gz"), at_root("in"), NULL, digests);
    if (status != QE_FORMAT) fail_msg("%zu bytes: %s", bytes, qe_status_name(status));
    clear();
  }
  write_bytes(at_root("set.tar.gz"), one, ONE); /* noise */
  assert_int_equal(qe_archive_unpack(&set_archive, at_root("set.tar.gz"), at_root("in"), NULL, digests), QE_FORMAT);
}

/* Each byte of the headers is damaged in turn: refused, or unpacked right where the byte means nothing. libarchive
 * takes a tar that is not compressed as well. */
static void test_damaged_headers(void **state) {
  (void)state;
  tar_set(&tar);
  tar_end(&tar);
  assert_int_equal(qe_make_folders(at_root("in")), QE_OK);
  for (size_t at = TAR_BLOCK; at < TAR_BLOCK + 270; at += 3) {
    tar.data[at] ^= 0x55;
    qe_status status = qe_archive_unpack_bytes(&set_archive, tar.data, tar.bytes, at_root("in"), digests);
    if (status != QE_FORMAT && status != QE_OK) fail_msg("byte %zu: %s", at, qe_message());
    clear();
    tar.data[at] ^= 0x55;
  }
  assert_int_equal(rmdir(at_root("in")), 0);
}

/* ---- one file in a .gz ---- */

static const qe_remote_archive single = {"one.bin.gz", 0, "", NULL, set_files, 1};

static qe_status unpack_single(const void *data, size_t bytes) {
  write_bytes(at_root("one.bin.gz"), data, bytes);
  assert_int_equal(qe_make_folders(at_root("in")), QE_OK);
  unlink(at_root("in/one.bin"));
  return qe_archive_unpack(&single, at_root("one.bin.gz"), at_root("in"), NULL, digests);
}

static void test_single(void **state) {
  static unsigned char zeros[BLOB];
  char text[QE_DIGEST_TEXT];
  (void)state;
  gzip(one, ONE, &packed);
  if (unpack_single(packed.data, packed.bytes) != QE_OK) fail_msg("%s", qe_message());
  assert_bytes(at_root("in/one.bin"), one, ONE);
  sum_of(one, ONE, text);
  assert_string_equal(digests[0], text);
  assert_int_equal(unpack_single(packed.data, packed.bytes / 2), QE_FORMAT);
  assert_int_equal(unpack_single(packed.data, 5), QE_FORMAT);
  assert_int_equal(unpack_single(packed.data, 0), QE_FORMAT);
  assert_int_equal(unpack_single(one, ONE), QE_FORMAT);
  assert_non_null(strstr(qe_message(), "not compressed by gzip"));
  gzip(one, ONE - 1, &packed);
  assert_int_equal(unpack_single(packed.data, packed.bytes), QE_FORMAT);
  gzip(zeros, BLOB, &packed); /* small, and a thousand times larger unpacked: ends at the limit */
  assert_int_equal(unpack_single(packed.data, packed.bytes), QE_FORMAT);
  assert_non_null(strstr(qe_message(), "has not the 150000 bytes"));
  struct stat info;
  assert_int_equal(stat(at_root("in/one.bin"), &info), 0);
  assert_true(info.st_size <= ONE);
}

/* A hostile archive with a right checksum: no set, nothing kept of it. */
static void test_get_refuses_it(void **state) {
  (void)state;
  char folder[96];
  snprintf(folder, sizeof folder, "%s/mirror", root);
  const char *const addresses[] = {folder, NULL};
  tar_set(&tar);
  tar_add(&tar, '2', "inner/link", "/etc", NULL, 0, 0);
  tar_end(&tar);
  pack(&tar);
  write_bytes(at_root("mirror/set.tar.gz"), packed.data, packed.bytes);
  get_fails(addresses, QE_FORMAT, "inner/link", "is refused", NULL);
  assert_false(qe_file_exists(at_root("data/the-set")));
  assert_false(qe_file_exists(at_root("data/the-set.part")));
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, fetch_set_up, fetch_tear_down)
  const struct CMUnitTest tests[] = {
      CASE(test_whole),          CASE(test_members_that_lead_out), CASE(test_links_and_devices),
      CASE(test_sizes),          CASE(test_missing_and_twice),     CASE(test_names_in_messages),
      CASE(test_damaged),        CASE(test_damaged_headers),       CASE(test_single),
      CASE(test_get_refuses_it),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
