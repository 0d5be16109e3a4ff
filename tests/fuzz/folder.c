/* The folder and the files of targets whose readers want a path. */
#define _GNU_SOURCE /* nftw */
#include "tests/fuzz/fuzz.h"

#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_TEXT = 256 };

static char folder[PATH_TEXT / 2];

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk) {
  (void)info, (void)kind, (void)walk;
  return remove(path);
}

static void remove_folder(void) {
  nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_folder(void) {
  if (*folder) return folder;
  const char *wanted = getenv("TMPDIR"), *memory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  int length = snprintf(folder, sizeof folder, "%s/qevo-fuzz-XXXXXX", wanted && *wanted ? wanted : memory);
  if (length >= (int)sizeof folder || !mkdtemp(folder) || atexit(remove_folder) != 0) {
    perror(folder);
    exit(1);
  }
  return folder;
}

const char *fuzz_path(const char *name) {
  static char path[4][PATH_TEXT];
  static int turn;
  turn = (turn + 1) % 4;
  snprintf(path[turn], PATH_TEXT, "%s/%s", fuzz_folder(), name);
  return path[turn];
}

void fuzz_write(const char *path, const void *bytes, size_t count) {
  FILE *file = fopen(path, "wb");
  FUZZ_REQUIRE(file);
  FUZZ_REQUIRE(fwrite(bytes, 1, count, file) == count);
  FUZZ_REQUIRE(fclose(file) == 0);
}
