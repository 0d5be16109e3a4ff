/* Reading JSON that may come from anywhere, over cJSON. */
#ifndef QE_BASE_JSON_READ_H
#define QE_BASE_JSON_READ_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cJSON;

/* The value that the text holds, and nothing after it but blanks; NULL when it is not JSON or there is no memory. To be
 * freed with cJSON_Delete. Threads may call it at a time. */
struct cJSON *qe_json_parse(const char *text, size_t length);
/* The value in folder/name, a file of at most `most` bytes; *root NULL where there is none that can be read. Fails only
 * without memory. */
QE_CHECKED qe_status qe_json_find(const char *folder, const char *name, size_t most, struct cJSON **root);
/* Whether the item is a number without fraction in least...most (at most 2^53 in size); then sets *value. NULL is no
 * number. */
bool qe_json_whole(const struct cJSON *item, int64_t least, int64_t most, int64_t *value);

#ifdef __cplusplus
}
#endif
#endif
