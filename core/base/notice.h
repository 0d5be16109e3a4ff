/* Notices: short lines for a person that a long or unexpected step of the library may hand to the program. The library
 * prints nothing itself. */
#ifndef QE_BASE_NOTICE_H
#define QE_BASE_NOTICE_H

#include "core/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Takes one line without newline; any thread may call it, one at a time. */
typedef void (*qe_notice_function)(const char *text);

/* Who gets the notices from now on; NULL (as at the start): nobody. */
void qe_notice_set(qe_notice_function function);
void qe_notice(const char *format, ...) QE_PRINTF(1, 2);

#ifdef __cplusplus
}
#endif
#endif
