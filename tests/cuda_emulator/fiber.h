/* Stacks that are switched by hand: what a thread of a block runs on. */
#ifndef EMULATOR_FIBER_H
#define EMULATOR_FIBER_H

/* Stores where the caller is in *save and goes on at `to`, which an earlier switch stored or fiber_prepare made.
 * Returns when somebody switches to *save. */
extern "C" void fiber_switch(void **save, void *to);

/* A context that enters entry(), which must never return, on the stack that ends at `top` (exclusive). */
void *fiber_prepare(unsigned char *top, void (*entry)());

#endif
