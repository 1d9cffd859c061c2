// What the machine for PTX counted of all launches, by kernel and line of source. STAND_IN_COUNTS names a file for it, as JSON.
#pragma once
#include "ptx/machine.h"

namespace stand_in {

// Adds what was counted of a launch. Of one that was run in part: what all of it would be.
void note(const ptx::Launch& launch, const ptx::Counted& counted);

}  // namespace stand_in
