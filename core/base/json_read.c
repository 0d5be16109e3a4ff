/* Reading JSON that may come from anywhere, over cJSON. */
#include "core/base/json_read.h"

#include "core/base/alloc.h"
#include "core/base/file.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <pthread.h>

/* cJSON keeps the place of the last error in a global; one parse at a time. */
cJSON *qe_json_parse(const char *text, size_t length) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  const char *end = NULL;
  pthread_mutex_lock(&lock);
  cJSON *root = cJSON_ParseWithLengthOpts(text, length, &end, 0);
  pthread_mutex_unlock(&lock);
  for (; root && end < text + length; end++) {
    if (*end == ' ' || *end == '\t' || *end == '\n' || *end == '\r') continue;
    cJSON_Delete(root);
    return NULL;
  }
  return root;
}

qe_status qe_json_find(const char *folder, const char *name, size_t most, cJSON **root) {
  char *path = qe_path_join(folder, name), *text = NULL;
  size_t bytes = 0;
  *root = NULL;
  qe_status status = path ? qe_file_read(path, most, &text, &bytes) : QE_NO_MEMORY;
  if (status == QE_OK) {
    *root = qe_json_parse(text, bytes);
  } else if (status != QE_NO_MEMORY) {
    qe_message_clear();
    status = QE_OK;
  }
  qe_free(text);
  qe_free(path);
  return status;
}

bool qe_json_whole(const cJSON *item, int64_t least, int64_t most, int64_t *value) {
  if (!cJSON_IsNumber(item)) return false;
  double number = item->valuedouble;
  if (!(number >= (double)least && number <= (double)most) || number != floor(number)) return false;
  *value = (int64_t)number;
  return true;
}
