/* What the tests of getting data share: a small data set, a folder to work in, notes that were given. */
#ifndef QE_TESTS_FETCH_FIXTURE_H
#define QE_TESTS_FETCH_FIXTURE_H

#define _GNU_SOURCE /* nftw */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "tests/archives.h"
#include "tests/http_server.h"
#include "tools/fetch/digest.h"
#include "tools/fetch/get.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ONE = 150000, TWO = 90001, TEXT = 20 };

static char root[64];                    /* a new folder for each test */
static char place[96];                   /* root/data */
static unsigned char one[ONE], two[TWO]; /* the set's files one.bin and two.bin */
static blob packed;                      /* set.tar.gz */
static char packed_sum[QE_DIGEST_TEXT];
static char notes[8192];
static int stall_bytes; /* a second; see qe_patience */
static int hurry_seconds;
static bool stop_wanted;
static int64_t stop_after; /* bytes arrived after which stop_wanted is set; 0: never */
static int64_t arrived_first, arrived_last;

static const qe_remote_file set_files[] = {{"one.bin", ONE}, {"two.bin", TWO}, {"names.txt", 0}};
static qe_remote_archive set_archive = {"set.tar.gz", 0, packed_sum, "inner", set_files, 3};
static const char *const nowhere[] = {NULL};
static const qe_remote set = {"set", "the-set", "the tests", nowhere, &set_archive, 1};

/* Noise, so that compression leaves it long enough to be cut. */
static inline void fill(unsigned char *data, size_t bytes, uint32_t seed) {
  for (size_t at = 0; at < bytes; at++) {
    seed = seed * 1664525 + 1013904223;
    data[at] = (unsigned char)(seed >> 24);
  }
}

static inline void sum_of(const void *data, size_t bytes, char text[QE_DIGEST_TEXT]) {
  qe_digest *digest;
  assert_int_equal(qe_digest_new(&digest), QE_OK);
  assert_int_equal(qe_digest_add(digest, data, bytes), QE_OK);
  assert_int_equal(qe_digest_text(digest, text), QE_OK);
  qe_digest_free(digest);
}

/* The set's archive is this tar, compressed. */
static inline void pack(const blob *tar) {
  gzip(tar->data, tar->bytes, &packed);
  sum_of(packed.data, packed.bytes, packed_sum);
  set_archive.bytes = (int64_t)packed.bytes;
}

/* inner/one.bin, two.bin, names.txt and a file that is not wanted. */
static inline void tar_set(blob *tar) {
  tar->bytes = 0;
  tar_add(tar, '5', "inner/", NULL, NULL, 0, 0);
  tar_add(tar, '0', "inner/one.bin", NULL, one, ONE, ONE);
  tar_add(tar, '0', "inner/readme.html", NULL, "<p>", 3, 3);
  tar_add(tar, '0', "./inner/two.bin", NULL, two, TWO, TWO);
  tar_add(tar, '0', "inner/names.txt", NULL, "cat\ndog\n", 8, 8);
}

static inline int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk) {
  (void)info, (void)kind, (void)walk;
  return remove(path);
}

static inline int fetch_set_up(void **state) {
  static blob tar;
  (void)state;
  /* In memory where that can be: files are synced here many times. */
  bool memory = access("/dev/shm", W_OK) == 0;
  strcpy(root, memory ? "/dev/shm/qevo-test-fetch-XXXXXX" : "/tmp/qevo-test-fetch-XXXXXX");
  if (!mkdtemp(root)) return -1;
  snprintf(place, sizeof place, "%s/data", root);
  fill(one, ONE, 1);
  fill(two, TWO, 2);
  tar_set(&tar);
  tar_end(&tar);
  pack(&tar);
  notes[0] = 0;
  stall_bytes = 1000;
  hurry_seconds = 0;
  stop_wanted = false;
  stop_after = 0;
  arrived_first = -1;
  static const char *const unset[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
                                      "ALL_PROXY",  "no_proxy",    "NO_PROXY",    "CURL_CA_BUNDLE"};
  for (size_t at = 0; at < sizeof unset / sizeof *unset; at++) unsetenv(unset[at]);
  return 0;
}

static inline int fetch_tear_down(void **state) {
  (void)state;
  qe_alloc_fail_nth(0);
  return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static inline bool stopped(void) {
  return stop_wanted;
}

static inline void on_arrival(void *context, const char *file, int64_t arrived, int64_t bytes) {
  (void)context, (void)file;
  assert_in_range(arrived, 0, bytes);
  if (arrived_first < 0) arrived_first = arrived;
  arrived_last = arrived;
  if (stop_after && arrived >= stop_after) stop_wanted = true;
}

static inline void on_note(void *context, const char *text) {
  (void)context;
  size_t used = strlen(notes);
  snprintf(notes + used, sizeof notes - used, "%s\n", text);
}

static inline qe_get_request request_of(const char *const *addresses) {
  qe_get_request request = {.place = place, .addresses = addresses};
  request.rules = (qe_download_rules){.patience = {2, 1, stall_bytes},
                                      .hurry = {2, hurry_seconds, 1 << 30},
                                      .tries = 3,
                                      .first_pause_ms = 1,
                                      .pauses_ms = 1,
                                      .stop = stopped,
                                      .progress = on_arrival,
                                      .note = on_note};
  return request;
}

/* A path below root, in one of four buffers in turn. */
static inline const char *at_root(const char *below) {
  static char paths[4][256];
  static int turn;
  char *path = paths[turn++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", root, below);
  return path;
}

static inline void write_bytes(const char *path, const void *data, size_t bytes) {
  char *folder = qe_path_folder(path);
  assert_int_equal(qe_make_folders(folder), QE_OK);
  qe_free(folder);
  assert_int_equal(qe_file_write(path, data, bytes), QE_OK);
}

static inline void assert_bytes(const char *path, const void *data, size_t bytes) {
  char *got;
  size_t length;
  if (qe_file_read(path, 1 << 24, &got, &length) != QE_OK) fail_msg("%s", qe_message());
  assert_int_equal(length, bytes);
  assert_memory_equal(got, data, bytes);
  qe_free(got);
}

/* The set is in its place, whole and checked, and nothing is left beside it. */
static inline void assert_there(void) {
  qe_check found;
  assert_bytes(at_root("data/the-set/one.bin"), one, ONE);
  assert_bytes(at_root("data/the-set/two.bin"), two, TWO);
  assert_int_equal(qe_get_check(&set, at_root("data/the-set"), NULL, &found), QE_OK);
  assert_int_equal(found, QE_CHECK_SUMS);
  assert_false(qe_file_exists(at_root("data/the-set.part")));
}

static inline void gets(const char *const *addresses) {
  qe_get_request request = request_of(addresses);
  char *folder;
  if (qe_get(&set, &request, &folder) != QE_OK) fail_msg("%s\nnotes: %s", qe_message(), notes);
  assert_string_equal(folder, at_root("data/the-set"));
  qe_free(folder);
  assert_there();
}

/* Getting fails with `status` and a message that holds each of the texts up to the NULL; no set is in its place. */
static inline void get_fails(const char *const *addresses, qe_status status, ...) {
  qe_get_request request = request_of(addresses);
  char *folder = NULL;
  qe_message_clear();
  qe_status got = qe_get(&set, &request, &folder);
  assert_null(folder);
  if (got != status) fail_msg("%s, not %s: %s", qe_status_name(got), qe_status_name(status), qe_message());
  va_list texts;
  va_start(texts, status);
  for (const char *text = va_arg(texts, const char *); text; text = va_arg(texts, const char *))
    if (!strstr(qe_message(), text)) fail_msg("'%s' is not in: %s", text, qe_message());
  va_end(texts);
}

#endif
