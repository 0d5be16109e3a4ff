/* JSON writer onto a growing text. Errors stick: the calls return nothing, qe_json_finish tells. */
#ifndef QE_BASE_JSON_H
#define QE_BASE_JSON_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { QE_JSON_DEPTH = 32 };

/* Starts as {0}. */
typedef struct qe_json {
  char *text;
  size_t length, capacity;
  int depth;
  char closer[QE_JSON_DEPTH]; /* '}' or ']' of each open container */
  qe_status status;
} qe_json;

/* `key` is the member's name inside an object and NULL inside an array and at the top. */
void qe_json_open_object(qe_json *json, const char *key);
void qe_json_open_array(qe_json *json, const char *key);
void qe_json_close(qe_json *json); /* the innermost open container */
/* Control characters are escaped; each byte that is not UTF-8 becomes U+FFFD. NULL is written as null. */
void qe_json_text(qe_json *json, const char *key, const char *text);
void qe_json_int(qe_json *json, const char *key, int64_t value);
/* The shortest of up to 17 (9) digits that reads back as the same number; NaN and infinities as null. */
void qe_json_real(qe_json *json, const char *key, double value);
void qe_json_float(qe_json *json, const char *key, float value);
void qe_json_bool(qe_json *json, const char *key, bool value);
void qe_json_null(qe_json *json, const char *key);

/* Hand over the finished text (qe_free) of `*length` bytes (may be NULL) and reset `json` to {0}.
 * QE_NO_MEMORY, or QE_USAGE when containers are left open or keys and containers did not fit. */
QE_CHECKED qe_status qe_json_finish(qe_json *json, char **text, size_t *length);
/* Give up: free what was written and reset to {0}. */
void qe_json_drop(qe_json *json);

enum { QE_REAL_TEXT = 32 };
/* The shortest decimal text that reads back as the same number ("nan", "inf", "-inf" too); returns `text`. */
char *qe_real_text(double value, char text[QE_REAL_TEXT]);
char *qe_float_text(float value, char text[QE_REAL_TEXT]);

/* Bytes of the UTF-8 character at `text` (1 to 4); 0 when there is none (RFC 3629: no surrogates, no overlong form). */
int qe_utf8_length(const char *text);

#ifdef __cplusplus
}
#endif
#endif
