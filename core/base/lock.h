/* Locks on folders, so that two processes do not write to one at a time. */
#ifndef QE_BASE_LOCK_H
#define QE_BASE_LOCK_H

#include "core/base/status.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lock an existing folder, by its file .lock, until qe_folder_unlock or the process ends, however it ends. *lock: for
 * qe_folder_unlock; -1 where the file system knows no locks. QE_USAGE, with who holds it, when it is locked already. */
QE_CHECKED qe_status qe_folder_lock(const char *folder, int *lock);
/* Whether a process has it; true where that cannot be found out. Never waits, creates nothing. */
bool qe_folder_is_locked(const char *folder);
void qe_folder_unlock(int lock); /* -1 is fine */

#ifdef __cplusplus
}
#endif
#endif
