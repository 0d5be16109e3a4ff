/* Unpacking of downloads. Only the wanted files appear, only in the folder given. The first byte chooses: even a tar,
 * odd a single file in a .gz. */
#include "tools/fetch/unpack.h"
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const qe_remote_file files[] = {{"one.bin", 700}, {"two.bin", 10}, {"names.txt", 0}};
enum { FILES = sizeof files / sizeof *files };
static const qe_remote_archive set = {"set.tar.gz", 0, "", "inner", files, FILES},
                               single = {"one.bin.gz", 0, "", NULL, files, 1};

static void expect_only(const char *folder, const char *const *names, int count) {
  DIR *listing = opendir(folder);
  FUZZ_REQUIRE(listing);
  for (const struct dirent *entry; (entry = readdir(listing));) {
    bool known = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    for (int i = 0; i < count; i++) known |= strcmp(entry->d_name, names[i]) == 0;
    FUZZ_REQUIRE(known);
  }
  closedir(listing);
}

/* Every file is there whole if the archive was taken; nothing of it stays for the next case. */
static void check_files(const qe_remote_archive *archive, bool taken) {
  for (int i = 0; i < FILES; i++) {
    char name[64];
    struct stat info;
    snprintf(name, sizeof name, "in/%s", files[i].name);
    const char *path = fuzz_path(name);
    bool there = lstat(path, &info) == 0;
    if (taken && i < archive->file_count && files[i].bytes) FUZZ_REQUIRE(there && info.st_size == files[i].bytes);
    if (there) FUZZ_REQUIRE(S_ISREG(info.st_mode) && unlink(path) == 0);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char *const in[] = {"in"}, *const wanted[] = {"one.bin", "two.bin", "names.txt"};
  char digests[FILES][QE_DIGEST_TEXT];
  if (size == 0) return 0;
  const qe_remote_archive *archive = data[0] & 1 ? &single : &set;
  const char *folder = fuzz_path("in");
  (void)mkdir(folder, 0777);
  qe_status status = qe_archive_unpack_bytes(archive, data + 1, size - 1, folder, digests);
  FUZZ_REQUIRE(status == QE_OK || status == QE_FORMAT);
  expect_only(fuzz_folder(), in, 1);
  expect_only(folder, wanted, FILES);
  check_files(archive, status == QE_OK);
  return 0;
}
