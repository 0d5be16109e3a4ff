/* Getting data from a server on loopback: whole, in parts, cut off, wrong, redirected, refused, through a proxy. */
#include "tests/fetch_fixture.h"

#include "core/data/dataset.h"

#include <signal.h>
#include <sys/resource.h>

static http_server server;
static served file; /* /set.tar.gz */
static char address[64];
static const char *const server_only[] = {address, NULL};

static void serve(served *files, int count) {
  assert_true(http_open(&server, files, count));
  snprintf(address, sizeof address, "http://127.0.0.1:%d", server.port);
}

static void serve_set(void) {
  file.path = "/set.tar.gz";
  file.data = packed.data;
  file.bytes = packed.bytes;
  serve(&file, 1);
}

static int set_up(void **state) {
  memset(&file, 0, sizeof file);
  return fetch_set_up(state);
}

/* ---- as it should be ---- */

static void test_whole(void **state) {
  (void)state;
  serve_set();
  gets(server_only);
  http_close(&server);
  assert_int_equal(file.hits, 1);
  assert_string_equal(file.range, "");
  assert_string_equal(notes, "unpacking\n");
  assert_int_equal(arrived_last, packed.bytes);
  assert_bytes(at_root("data/the-set/names.txt"), "cat\ndog\n", 8);
  assert_false(qe_file_exists(at_root("data/the-set/readme.html")));
  char command[256];
  snprintf(command, sizeof command, "cd %s && sha256sum --quiet -c SHA256SUMS", at_root("data/the-set"));
  assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a test of the file's format */
}

static void test_no_length_is_said(void **state) {
  (void)state;
  file.no_length = true;
  serve_set();
  gets(server_only);
  http_close(&server);
}

static void test_folder_of_this_machine(void **state) {
  (void)state;
  char folder[128], archive[160];
  snprintf(folder, sizeof folder, "%s/a 100%%#folder", root);
  snprintf(archive, sizeof archive, "%s/set.tar.gz", folder);
  const char *of_folder[] = {folder, NULL}, *of_archive[] = {archive, NULL};
  write_bytes(archive, packed.data, packed.bytes);
  gets(of_folder);
  gets(of_archive);
  assert_int_equal(unlink(archive), 0);
  get_fails(of_folder, QE_IO, "set.tar.gz", "no such file", NULL);
}

/* ---- parts ---- */

static void test_cut_connections_go_on(void **state) {
  (void)state;
  file.cut = packed.bytes / 3;
  file.cuts = 2;
  serve_set();
  gets(server_only);
  http_close(&server);
  assert_int_equal(file.hits, 3);
  char range[64];
  snprintf(range, sizeof range, "bytes=%zu-", 2 * (packed.bytes / 3));
  assert_string_equal(file.range, range);
  assert_non_null(strstr(notes, "the connection was cut"));
}

/* A line that is cut all the time still gets there, as long as every try brings something worth it. */
static void test_many_cuts(void **state) {
  (void)state;
  file.cut = 1 << 16;
  file.cuts = -1;
  serve_set();
  gets(server_only);
  http_close(&server);
  assert_true(file.hits > 3);
}

static void test_cuts_that_bring_nothing_end(void **state) {
  (void)state;
  file.cut = 1000;
  file.cuts = -1;
  serve_set();
  get_fails(server_only, QE_IO, "the connection was cut", "are kept", "--url", NULL);
  http_close(&server);
  assert_int_equal(file.hits, 3);
  assert_true(qe_file_exists(at_root("data/the-set.part/set.tar.gz")));
  assert_false(qe_file_exists(at_root("data/the-set")));
}

static void test_server_without_ranges(void **state) {
  (void)state;
  file.cut = packed.bytes / 2;
  file.cuts = 2;
  file.no_ranges = true;
  serve_set();
  gets(server_only);
  http_close(&server);
  assert_int_equal(file.hits, 3);
}

static void test_interrupted_run_goes_on(void **state) {
  (void)state;
  serve_set();
  file.cut = packed.bytes / 2;
  file.cuts = 1;
  file.stall = true;
  stop_after = (int64_t)packed.bytes / 2;
  get_fails(server_only, QE_INTERRUPTED, "the same command goes on", NULL);
  assert_true(qe_file_exists(at_root("data/the-set.part/set.tar.gz")));
  stop_wanted = false;
  stop_after = 0;
  arrived_first = -1;
  gets(server_only);
  http_close(&server);
  assert_true(strncmp(file.range, "bytes=", 6) == 0);
  assert_true(arrived_first > 0);
}

static void test_stalled_transfer(void **state) {
  (void)state;
  file.cut = packed.bytes / 2;
  file.cuts = 1;
  file.stall = true;
  stall_bytes = 1 << 30; /* libcurl's mean of 5 s falls below it at once */
  serve_set();
  gets(server_only);
  http_close(&server);
  assert_int_equal(file.hits, 2);
  assert_non_null(strstr(notes, "the transfer failed"));
}

/* A slow address is left for the next, which goes on with the part; it is asked again when no other gives the file. */
static void test_slow_address(void **state) {
  (void)state;
  served all[] = {{.path = "/slow/set.tar.gz", .data = packed.data, .bytes = packed.bytes},
                  {.path = "/good/set.tar.gz", .data = packed.data, .bytes = packed.bytes}};
  char slow[96], good[96], missing[96], range[64];
  all[0].cut = packed.bytes / 2;
  all[0].cuts = 2;
  all[0].stall = true;
  serve(all, 2);
  snprintf(slow, sizeof slow, "%s/slow", address);
  snprintf(good, sizeof good, "%s/good", address);
  snprintf(missing, sizeof missing, "%s/missing", address);
  const char *both[] = {slow, good, NULL}, *only[] = {slow, missing, NULL};
  hurry_seconds = 1;
  gets(both);
  snprintf(range, sizeof range, "bytes=%zu-", packed.bytes / 2);
  assert_int_equal(all[0].hits, 1);
  assert_string_equal(all[1].range, range);
  assert_non_null(strstr(notes, "slow; looking for a faster address"));
  gets(only);
  assert_int_equal(all[0].hits, 3);
  http_close(&server);
}

/* What is here is of another file: it is found out at the end, and the same address gets a clean try. */
static void test_foreign_part(void **state) {
  (void)state;
  static unsigned char junk[BLOB];
  serve_set();
  write_bytes(at_root("data/the-set.part/set.tar.gz"), junk, 5000);
  gets(server_only);
  assert_non_null(strstr(notes, "is not of this file"));
  assert_int_equal(file.hits, 2);
  write_bytes(at_root("data/the-set.part/set.tar.gz"), junk, packed.bytes);
  gets(server_only);
  write_bytes(at_root("data/the-set.part/set.tar.gz"), junk, packed.bytes + 1);
  gets(server_only);
  http_close(&server);
}

static void test_part_that_is_whole(void **state) {
  (void)state;
  serve_set();
  write_bytes(at_root("data/the-set.part/set.tar.gz"), packed.data, packed.bytes);
  gets(server_only);
  http_close(&server);
  assert_int_equal(file.hits, 0);
}

/* ---- wrong answers ---- */

static void test_wrong_bytes(void **state) {
  (void)state;
  static blob wrong;
  wrong = packed;
  wrong.data[wrong.bytes / 2] ^= 1;
  served both[] = {{.path = "/bad/set.tar.gz", .data = wrong.data, .bytes = wrong.bytes},
                   {.path = "/good/set.tar.gz", .data = packed.data, .bytes = packed.bytes}};
  char bad[96], good[96];
  serve(both, 2);
  snprintf(bad, sizeof bad, "%s/bad", address);
  snprintf(good, sizeof good, "%s/good/", address);
  const char *only_bad[] = {bad, NULL}, *all[] = {bad, good, NULL};
  get_fails(only_bad, QE_IO, "wrong content: SHA-256 ", packed_sum, NULL);
  assert_false(qe_file_exists(at_root("data/the-set.part")));
  gets(all);
  http_close(&server);
  assert_non_null(strstr(notes, "trying the next address"));
}

static void test_wrong_lengths(void **state) {
  (void)state;
  file.claimed = (long long)packed.bytes + 7;
  serve_set();
  get_fails(server_only, QE_IO, "another file", NULL);
  file.type = "text/html; charset=utf-8";
  file.claimed = 100;
  get_fails(server_only, QE_IO, "of 100 bytes", "log in", NULL);
  file.claimed = 0;
  file.no_length = true;
  file.bytes = packed.bytes + 1; /* one byte behind the end */
  get_fails(server_only, QE_IO, "more than the file's", NULL);
  file.bytes = packed.bytes - 1;
  file.no_ranges = true;
  get_fails(server_only, QE_IO, "ended after", NULL);
  http_close(&server);
}

static void test_wrong_ranges(void **state) {
  (void)state;
  file.shift = 1;
  serve_set();
  write_bytes(at_root("data/the-set.part/set.tar.gz"), packed.data, 1000);
  get_fails(server_only, QE_IO, "from byte 1001 on", NULL);
  http_close(&server);
}

static void test_redirections(void **state) {
  (void)state;
  char to_file[160], to_self[96], to_good[96];
  served all[] = {{.path = "/a/set.tar.gz", .location = to_good},
                  {.path = "/set.tar.gz", .data = packed.data, .bytes = packed.bytes},
                  {.path = "/b/set.tar.gz", .location = to_file},
                  {.path = "/c/set.tar.gz", .location = to_self}};
  char addresses[3][96];
  write_bytes(at_root("set.tar.gz"), packed.data, packed.bytes);
  serve(all, 4);
  snprintf(to_good, sizeof to_good, "%s/set.tar.gz", address);
  snprintf(to_file, sizeof to_file, "file://%s", at_root("set.tar.gz"));
  snprintf(to_self, sizeof to_self, "%s/c/set.tar.gz", address);
  for (int at = 0; at < 3; at++) snprintf(addresses[at], sizeof addresses[at], "%s/%c", address, 'a' + at);
  const char *good[] = {addresses[0], NULL}, *file_url[] = {addresses[1], NULL}, *circle[] = {addresses[2], NULL};
  gets(good);
  get_fails(file_url, QE_IO, "only https, http", NULL);
  get_fails(circle, QE_IO, "in circles", NULL);
  http_close(&server);
}

static void test_statuses(void **state) {
  (void)state;
  serve_set();
  char missing[96];
  snprintf(missing, sizeof missing, "%s/missing", address);
  const char *all[] = {missing, address, NULL}, *only[] = {missing, NULL};
  get_fails(only, QE_IO, "HTTP status 404 (no such file there)", "missing/set.tar.gz", NULL);
  gets(all);
  file.hits = 0;
  file.status = 503;
  file.failures = 2;
  gets(server_only);
  assert_int_equal(file.hits, 3);
  assert_non_null(strstr(notes, "503"));
  file.failures = -1;
  get_fails(server_only, QE_IO, "HTTP status 503 (out of service for now)", NULL);
  file.status = 403;
  file.hits = 0;
  get_fails(server_only, QE_IO, "403", NULL);
  assert_int_equal(file.hits, 1);
  http_close(&server);
}

/* A server that asks for a pause gets it; Ctrl-C ends the pause. */
static bool stop_soon(void) {
  static int asked;
  return ++asked > 20;
}

static void test_retry_after(void **state) {
  (void)state;
  file.status = 429;
  file.failures = 1;
  file.retry_after = 60;
  serve_set();
  qe_get_request request = request_of(server_only);
  char *folder;
  request.rules.stop = stop_soon;
  assert_int_equal(qe_get(&set, &request, &folder), QE_INTERRUPTED);
  assert_non_null(strstr(notes, "going on in 60 s"));
  file.failures = 1;
  file.retry_after = 3600;
  get_fails(server_only, QE_IO, "429", NULL); /* nobody wants to wait that long */
  http_close(&server);
}

/* ---- no server, proxies ---- */

static void test_no_server(void **state) {
  (void)state;
  serve_set();
  http_close(&server);
  get_fails(server_only, QE_IO, "no connection", "Is there a network?", "--url", NULL);
  const char *const name[] = {"http://no-such-host.invalid/x", NULL};
  get_fails(name, QE_IO, "cannot be looked up", "Is there a network?", NULL);
  const char *const scheme[] = {"gopher://127.0.0.1/x", NULL};
  get_fails(scheme, QE_IO, "only https, http and file", NULL);
}

static void test_proxies(void **state) {
  (void)state;
  const char *const plain[] = {"http://data.invalid/x", NULL}, *const secure[] = {"https://data.invalid/x", NULL};
  char proxy[96];
  serve_set();
  server.proxy_status = 407;
  snprintf(proxy, sizeof proxy, "http://127.0.0.1:%d", server.port);
  setenv("http_proxy", proxy, 1);
  setenv("https_proxy", proxy, 1);
  get_fails(plain, QE_IO, "407", "NAME:PASSWORD", NULL);
  assert_int_equal(server.proxied, 1);
  get_fails(secure, QE_IO, "the proxy refused to connect: HTTP status 407", "https_proxy", NULL);
  server.proxy_status = 403;
  get_fails(secure, QE_IO, "the proxy refused to connect: HTTP status 403", "no_proxy", NULL);
  setenv("no_proxy", "127.0.0.1", 1);
  gets(server_only);
  assert_int_equal(server.proxied, 3);
  setenv("http_proxy", "http://no-such-proxy.invalid:3128", 1);
  get_fails(plain, QE_IO, "the proxy's name cannot be looked up", NULL);
  http_close(&server);
}

/* Names and passwords in an address are used, and not shown. */
static void test_password_is_not_shown(void **state) {
  (void)state;
  char secret[96];
  file.status = 401;
  file.failures = -1;
  serve_set();
  snprintf(secret, sizeof secret, "http://me:secret@127.0.0.1:%d", server.port);
  const char *const with_password[] = {secret, NULL};
  get_fails(with_password, QE_IO, "http://127.0.0.1:", "a name and a password are wanted", NULL);
  assert_null(strstr(qe_message(), "secret"));
  assert_null(strstr(notes, "secret"));
  http_close(&server);
}

/* ---- the disk ---- */

static void test_disk_refuses(void **state) {
  (void)state;
  struct rlimit limit, before;
  serve_set();
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, SIG_IGN);
  limit = before;
  limit.rlim_cur = 100000;
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
  get_fails(server_only, QE_IO, "the-set.part/set.tar.gz: cannot write", "ulimit -f", "is kept", NULL);
  limit.rlim_cur =
      packed.bytes - 1; /* what is unpacked is smaller than the archive, so fill the disk while unpacking */
  write_bytes(at_root("data/the-set.part/set.tar.gz"), packed.data, 90000);
  limit.rlim_cur = 90000;
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  write_bytes(at_root("data/the-set.part/set.tar.gz"), packed.data, packed.bytes);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
  get_fails(server_only, QE_IO, "unpacked/one.bin: cannot write", NULL);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  assert_false(qe_file_exists(at_root("data/the-set")));
  gets(server_only); /* and now there is room */
  http_close(&server);
}

static void test_table(void **state) {
  (void)state;
  size_t sets, kinds;
  const qe_remote *remote = qe_remotes(&sets);
  const qe_dataset_kind *kind = qe_dataset_kinds(&kinds);
  for (size_t at = 0; at < sets; at++) {
    assert_ptr_equal(qe_remote_find(remote[at].name), &remote[at]);
    assert_non_null(remote[at].addresses[0]);
    for (int archive = 0; archive < remote[at].archive_count; archive++) {
      assert_int_equal(strlen(remote[at].archives[archive].sha256), 64);
      assert_true(remote[at].archives[archive].inner || remote[at].archives[archive].file_count == 1);
    }
    for (size_t other = 0; other < kinds; other++)
      if (strcmp(kind[other].name, remote[at].name) == 0) {
        assert_string_equal(kind[other].folder, remote[at].folder);
        assert_string_equal(kind[other].marker, remote[at].archives[0].files[0].name);
      }
  }
  assert_null(qe_remote_find("cifar11"));
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, fetch_tear_down)
  const struct CMUnitTest tests[] = {
      CASE(test_whole),
      CASE(test_no_length_is_said),
      CASE(test_folder_of_this_machine),
      CASE(test_cut_connections_go_on),
      CASE(test_many_cuts),
      CASE(test_cuts_that_bring_nothing_end),
      CASE(test_server_without_ranges),
      CASE(test_interrupted_run_goes_on),
      CASE(test_stalled_transfer),
      CASE(test_slow_address),
      CASE(test_foreign_part),
      CASE(test_part_that_is_whole),
      CASE(test_wrong_bytes),
      CASE(test_wrong_lengths),
      CASE(test_wrong_ranges),
      CASE(test_redirections),
      CASE(test_statuses),
      CASE(test_retry_after),
      CASE(test_no_server),
      CASE(test_proxies),
      CASE(test_password_is_not_shown),
      CASE(test_disk_refuses),
      CASE(test_table),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
