/* Runs a target on files, where libFuzzer is not linked: each file, and each file of a folder, once. Of a single file
 * it says what the reader's last message was. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "tests/fuzz/fuzz.h"

#include <dirent.h>

enum { CASE_MOST = 1 << 24 };

static int run_file(const char *path) {
  char *bytes;
  size_t count;
  if (qe_file_read(path, CASE_MOST, &bytes, &count) != QE_OK) {
    fprintf(stderr, "%s\n", qe_message());
    return 1;
  }
  uint8_t *exact = malloc(count ? count : 1); /* so that a sanitizer sees a read past the end */
  for (size_t i = 0; exact && i < count; i++) exact[i] = (uint8_t)bytes[i];
  qe_free(bytes);
  if (!exact) return 1;
  (void)LLVMFuzzerTestOneInput(exact, count);
  free(exact);
  return 0;
}

static int run_folder(const char *path, int *cases) {
  int failed = 0;
  DIR *listing = opendir(path);
  if (!listing) {
    perror(path);
    return 1;
  }
  for (const struct dirent *entry; (entry = readdir(listing));) {
    if (entry->d_name[0] == '.') continue;
    char *file = qe_path_join(path, entry->d_name);
    failed |= !file || run_file(file);
    qe_free(file);
    ++*cases;
  }
  closedir(listing);
  return failed;
}

int main(int argc, char **argv) {
  int failed = 0, cases = 0;
  for (int i = 1; i < argc; i++) {
    if (qe_folder_exists(argv[i])) {
      failed |= run_folder(argv[i], &cases);
    } else {
      failed |= run_file(argv[i]);
      cases++;
    }
  }
  printf("%d cases%s%s\n", cases, cases == 1 ? ": " : "", cases == 1 ? qe_message() : "");
  return failed || cases == 0;
}
