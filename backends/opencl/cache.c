/* Built programs on disk: $QEVO_CACHE_DIR/opencl, else $XDG_CACHE_HOME/qevo-gpu/opencl, else ~/.cache/qevo-gpu/opencl.
 *
 * A file is: magic, bytes of the key, bytes of the data, checksum of key and data (struct header), the key, the data.
 * The key says all that the data depends on. What is not exactly so is not there: a cache never fails. */
#include "backends/opencl/opencl.h"

#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/base/hash.h"

#include <stdlib.h>
#include <string.h>

typedef struct header {
  char magic[8];
  uint64_t key_bytes, data_bytes, checksum;
} header;

static const char magic[8] = "QEVOCL1";
enum { LARGEST = 256 << 20 };

static char *chosen_folder(void) {
  const char *own = getenv("QEVO_CACHE_DIR"), *all = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  if (own && own[0]) return qe_format("%s/opencl", own);
  if (all && all[0] == '/') return qe_format("%s/qevo-gpu/opencl", all);
  if (home && home[0] == '/') return qe_format("%s/.cache/qevo-gpu/opencl", home);
  return NULL;
}

char *opencl_cache_folder(void) {
  return chosen_folder();
}

static char *entry_path(const char *folder, const char *name, const char *key) {
  return qe_format("%s/%s-%016llx.bin", folder, name, (unsigned long long)qe_hash(QE_HASH_START, key, strlen(key)));
}

static uint64_t checksum(const char *key, const void *data, size_t bytes) {
  return qe_hash(qe_hash(QE_HASH_START, key, strlen(key)), data, bytes);
}

/* Where the data begins in a whole entry of this key; NULL for any other content. */
static const char *find_data(const char *file, size_t file_bytes, const char *key, size_t *bytes) {
  header head;
  size_t key_bytes = strlen(key);
  if (file_bytes < sizeof head + key_bytes) return NULL;
  memcpy(&head, file, sizeof head);
  if (memcmp(head.magic, magic, sizeof magic) != 0 || head.key_bytes != key_bytes ||
      head.data_bytes != file_bytes - sizeof head - key_bytes || memcmp(file + sizeof head, key, key_bytes) != 0)
    return NULL;
  const char *data = file + sizeof head + key_bytes;
  *bytes = (size_t)head.data_bytes;
  return head.checksum == checksum(key, data, *bytes) ? data : NULL;
}

void *opencl_cache_load(const char *name, const char *key, size_t *bytes) {
  char *folder = chosen_folder(), *path = folder ? entry_path(folder, name, key) : NULL, *file = NULL, *copy = NULL;
  size_t file_bytes = 0;
  if (path && qe_file_read(path, LARGEST, &file, &file_bytes) == QE_OK) {
    const char *data = find_data(file, file_bytes, key, bytes);
    copy = data ? qe_alloc(*bytes) : NULL;
    if (copy) memcpy(copy, data, *bytes);
  }
  qe_free(file);
  qe_free(path);
  qe_free(folder);
  return copy;
}

void opencl_cache_store(const char *name, const char *key, const void *data, size_t bytes) {
  /* The temporary file is named by the process: its threads take turns. */
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  header head = {.key_bytes = strlen(key), .data_bytes = bytes, .checksum = checksum(key, data, bytes)};
  memcpy(head.magic, magic, sizeof magic);
  const qe_span spans[] = {{&head, sizeof head}, {key, strlen(key)}, {data, bytes}};
  char *folder = chosen_folder(), *path = folder ? entry_path(folder, name, key) : NULL;
  pthread_mutex_lock(&lock);
  if (path && qe_make_folders(folder) == QE_OK) {
    qe_status kept = qe_file_write_spans(path, spans, sizeof spans / sizeof *spans);
    (void)kept; /* the program is built again next time */
  }
  pthread_mutex_unlock(&lock);
  qe_free(path);
  qe_free(folder);
}
