#include "accounts/teams/team_service.hpp"

#include "accounts/store.hpp"
#include "accounts/validate.hpp"

namespace nebula::accounts {

using store::Tx;

namespace {

constexpr std::int64_t own_teams_max = 100;

std::unexpected<Error> no_team() { return fail(Code::not_found, "there is no such team", "team"); }
std::unexpected<Error> no_member() { return fail(Code::not_found, "there is no such member", "member"); }
std::unexpected<Error> not_allowed(const char* who) {
    return fail(Code::forbidden, std::string("only ") + who + " may do that");
}

bool is_admin(const sql::Membership& as) { return as.role != TeamRole::member; }

}  // namespace

std::optional<Caller> acting_for(Tx& tx, const Caller& caller, AccountId team) {
    if (team == caller.account) return caller;
    if (caller.kind != Caller::Kind::person) return std::nullopt;
    auto as = sql::membership(tx, team, caller.user);
    if (!as) return std::nullopt;
    Caller acting = caller;
    acting.account = team;
    acting.role = as->role;
    acting.permissions = as->permissions;
    return acting;
}

Result<TeamService::Standing> TeamService::standing(Tx& tx, const Caller& caller, AccountId team,
                                                    bool is_change) const {
    if (is_change && !sql::lock_account(tx, team)) return no_team();
    auto own = sql::membership(tx, team, caller.user);
    if (!own) return no_team();
    auto account = sql::account_by_id(tx, team);
    if (!account) return no_team();
    return Standing{*own, std::move(*account)};
}

Result<void> TeamService::may_manage(const Standing& standing, const Caller& caller,
                                     const Member& target) const {
    const sql::Membership& own = standing.own;
    if (!own.permissions.has(Permission::team_write)) return not_allowed("owner and admins");
    if (target.user == caller.user)
        return fail(Code::forbidden, "you cannot change your own membership", "member");
    if (target.role == TeamRole::owner)
        return fail(Code::forbidden, "the owner can only be changed by transferring the team", "member");
    if (target.role == TeamRole::admin && own.role != TeamRole::owner) return not_allowed("the owner");
    // Nor may a member take away or give what is beyond him.
    if (!is_admin(own) && (target.permissions.bits() & ~own.permissions.bits()))
        return not_allowed("owner and admins");
    return {};
}

void TeamService::record(Tx& tx, const Caller& caller, AccountId team, const char* action,
                         const char* resource, std::string id, std::string name, std::string details) {
    AuditEntry entry{team, action, resource, std::move(id), std::move(name), std::move(details)};
    write_audit(tx, clock_, caller, entry);
}

void TeamService::tell(Tx& tx, UserId user) {
    notices_.publish(tx, "user", user.text());
    // The notice comes a moment later; who was removed must not get in here meanwhile.
    if (forget_) tx.after_commit([forget = forget_, user] { forget(user); });
}

Async<Result<Team>> TeamService::create(Caller caller, std::string name, std::string description) {
    auto good = check_name(name, "name");
    if (!good) co_return fail(good.error());
    auto described = check_description(description);
    if (!described) co_return fail(described.error());
    Account account;
    account.id = AccountId::next(clock_);
    // What must be unique is not what people choose: nobody learns, or takes, another's name.
    account.name = account.id.text();
    account.display_name = std::move(name);
    account.description = std::move(description);
    account.kind = AccountKind::team;
    account.owner = caller.user;
    account.created_at = clock_.now();
    auto insert = [this, caller, account](Tx& tx) -> Result<Team> {
        if (sql::count_owned_teams(tx, caller.user) >= own_teams_max)
            return fail(Code::conflict, "you own 100 teams already", "name");
        sql::insert_account(tx, account);
        sql::insert_member(tx, account.id, caller.user, {TeamRole::owner, Permissions::all()},
                           account.created_at);
        record(tx, caller, account.id, "Create", "Team", account.id.text(), account.display_name);
        tell(tx, caller.user);
        auto team = sql::team_of(tx, caller.user, account.id);
        if (!team) return no_team();
        return std::move(*team);
    };
    co_return co_await db_.in_tx(std::move(insert));
}

Async<Result<std::vector<Team>>> TeamService::list(Caller caller) {
    auto list = [user = caller.user](Tx& tx) -> Result<std::vector<Team>> { return sql::teams_of(tx, user); };
    co_return co_await db_.read(std::move(list));
}

Async<Result<Team>> TeamService::get(Caller caller, AccountId team) {
    auto look_up = [user = caller.user, team](Tx& tx) -> Result<Team> {
        auto found = sql::team_of(tx, user, team);
        if (!found) return no_team();
        return std::move(*found);
    };
    co_return co_await db_.read(std::move(look_up));
}

Async<Result<Team>> TeamService::change(Caller caller, AccountId team, std::optional<std::string> name,
                                        std::optional<std::string> description) {
    if (name) {
        auto good = check_name(*name, "name");
        if (!good) co_return fail(good.error());
    }
    if (description) {
        auto good = check_description(*description);
        if (!good) co_return fail(good.error());
    }
    auto update = [this, caller, team, name, description](Tx& tx) -> Result<Team> {
        auto own = standing(tx, caller, team, true);
        if (!own) return fail(own.error());
        if (!is_admin(own->own)) return not_allowed("owner and admins");
        std::string new_name = name.value_or(own->team.display_name);
        sql::change_team(tx, team, new_name, description.value_or(own->team.description));
        record(tx, caller, team, "Update", "Team", team.text(), new_name);
        for (const Member& member : sql::members(tx, team)) tell(tx, member.user);
        auto changed = sql::team_of(tx, caller.user, team);
        if (!changed) return no_team();
        return std::move(*changed);
    };
    co_return co_await db_.in_tx(std::move(update));
}

std::vector<Sha256> TeamService::revoke_keys(Tx& tx, const Caller& caller, AccountId team,
                                             std::optional<UserId> creator) {
    std::vector<Sha256> hashes;
    for (const Key& key : sql::unrevoked_keys_of(tx, team)) {
        if (creator && key.creator != *creator) continue;
        sql::revoke_key(tx, key.id, clock_.now());
        record(tx, caller, team, "Delete", "API Key", key.id.text(), key.name);
        hashes.push_back(key.hash);
        if (auto former = sql::former_hash(tx, key.id)) hashes.push_back(*former);
    }
    for (const Sha256& hash : hashes) notices_.publish(tx, "key", to_hex(hash.bytes));
    return hashes;
}

Async<Result<void>> TeamService::remove(Caller caller, AccountId team) {
    auto may = [this, caller, team](Tx& tx) -> Result<bool> {
        auto own = standing(tx, caller, team, false);
        if (!own) return fail(own.error());
        if (own->own.role != TeamRole::owner) return not_allowed("the owner");
        return true;
    };
    auto allowed = co_await db_.read(std::move(may));
    if (!allowed) co_return fail(allowed.error());
    if (holds_nothing_) {
        auto empty = co_await holds_nothing_(team);
        if (!empty) co_return fail(empty.error());
        if (!*empty)
            co_return fail(Code::conflict, "the team holds credits: spend them or have them refunded first",
                           "team");
    }
    auto drop = [this, caller, team](Tx& tx) -> Result<std::vector<Sha256>> {
        auto own = standing(tx, caller, team, true);
        if (!own) return fail(own.error());
        if (own->own.role != TeamRole::owner) return not_allowed("the owner");
        auto hashes = revoke_keys(tx, caller, team, std::nullopt);
        for (const Member& member : sql::members(tx, team)) tell(tx, member.user);
        sql::delete_team(tx, team, clock_.now());
        record(tx, caller, team, "Delete", "Team", team.text(), own->team.display_name);
        return hashes;
    };
    auto dropped = co_await db_.in_tx(std::move(drop));
    if (!dropped) co_return fail(dropped.error());
    accounts_.forget_keys(*dropped);
    co_return Result<void>();
}

Async<Result<std::vector<Member>>> TeamService::members(Caller caller, AccountId team) {
    auto list = [this, caller, team](Tx& tx) -> Result<std::vector<Member>> {
        auto own = standing(tx, caller, team, false);
        if (!own) return fail(own.error());
        return sql::members(tx, team);
    };
    co_return co_await db_.read(std::move(list));
}

Async<Result<Member>> TeamService::change_member(Caller caller, AccountId team, UserId user,
                                                 std::optional<TeamRole> role,
                                                 std::optional<Permissions> permissions) {
    auto update = [this, caller, team, user, role, permissions](Tx& tx) -> Result<Member> {
        auto own = standing(tx, caller, team, true);
        if (!own) return fail(own.error());
        auto target = sql::member(tx, team, user);
        if (!target) return no_member();
        auto allowed = may_manage(*own, caller, *target);
        if (!allowed) return fail(allowed.error());
        Member wanted = *target;
        wanted.role = role.value_or(target->role);
        if (wanted.role == TeamRole::owner)
            return fail(Code::invalid_request, "a team is given away by transferring it", "role");
        // An admin who becomes a member again does not keep everything.
        if (target->role == TeamRole::admin && wanted.role == TeamRole::member)
            wanted.permissions = Permissions::of_member();
        if (permissions) wanted.permissions = *permissions;
        if (wanted.role == TeamRole::admin) wanted.permissions = Permissions::all();
        allowed = may_manage(*own, caller, wanted);
        if (!allowed) return fail(allowed.error());
        sql::change_member(tx, team, user, {wanted.role, wanted.permissions});
        std::string details = R"({"role":")" + std::string(role_name(wanted.role)) + R"(","permissions":)" +
                              std::to_string(wanted.permissions.bits()) + "}";
        record(tx, caller, team, "Update", "Team Member", user.text(), target->email, std::move(details));
        tell(tx, user);
        return wanted;
    };
    co_return co_await db_.in_tx(std::move(update));
}

Async<Result<void>> TeamService::remove_member(Caller caller, AccountId team, UserId user, bool with_keys) {
    auto drop = [this, caller, team, user, with_keys](Tx& tx) -> Result<std::vector<Sha256>> {
        auto own = standing(tx, caller, team, true);
        if (!own) return fail(own.error());
        auto target = sql::member(tx, team, user);
        if (!target) return no_member();
        auto allowed = may_manage(*own, caller, *target);
        if (!allowed) return fail(allowed.error());
        sql::delete_member(tx, team, user);
        record(tx, caller, team, "Remove", "Team Member", user.text(), target->email);
        tell(tx, user);
        return with_keys ? revoke_keys(tx, caller, team, user) : std::vector<Sha256>();
    };
    auto dropped = co_await db_.in_tx(std::move(drop));
    if (!dropped) co_return fail(dropped.error());
    accounts_.forget_keys(*dropped);
    co_return Result<void>();
}

Async<Result<void>> TeamService::leave(Caller caller, AccountId team) {
    auto drop = [this, caller, team](Tx& tx) -> Result<bool> {
        auto own = standing(tx, caller, team, true);
        if (!own) return fail(own.error());
        if (own->own.role == TeamRole::owner)
            return fail(Code::conflict, "transfer the team to somebody else first", "team");
        sql::delete_member(tx, team, caller.user);
        record(tx, caller, team, "Remove", "Team Member", caller.user.text(), caller.email);
        tell(tx, caller.user);
        return true;
    };
    auto dropped = co_await db_.in_tx(std::move(drop));
    if (!dropped) co_return fail(dropped.error());
    co_return Result<void>();
}

Async<Result<void>> TeamService::transfer(Caller caller, AccountId team, UserId to) {
    auto hand_over = [this, caller, team, to](Tx& tx) -> Result<bool> {
        auto own = standing(tx, caller, team, true);
        if (!own) return fail(own.error());
        if (own->own.role != TeamRole::owner) return not_allowed("the owner");
        if (to == caller.user) return fail(Code::invalid_request, "the team is yours already", "user_id");
        auto target = sql::member(tx, team, to);
        if (!target) return no_member();
        sql::change_member(tx, team, caller.user, {TeamRole::admin, Permissions::all()});
        sql::change_member(tx, team, to, {TeamRole::owner, Permissions::all()});
        sql::set_team_owner(tx, team, to);
        record(tx, caller, team, "Update", "Team", team.text(), own->team.display_name,
               R"({"owner":")" + to.text() + R"("})");
        tell(tx, caller.user);
        tell(tx, to);
        return true;
    };
    auto done = co_await db_.in_tx(std::move(hand_over));
    if (!done) co_return fail(done.error());
    co_return Result<void>();
}

Async<Result<AccountId>> TeamService::shared_team(Caller caller, UserId user) {
    auto look_up = [caller, user](Tx& tx) -> Result<AccountId> {
        if (sql::membership(tx, caller.account, user)) return caller.account;
        AccountId found;
        for (const Team& team : sql::teams_of(tx, caller.user)) {
            if (!team.permissions.has(Permission::team_write) || !sql::membership(tx, team.id, user))
                continue;
            if (found)
                return fail(Code::invalid_request, "name the team: both of you are in several", "team_id");
            found = team.id;
        }
        if (!found) return no_member();
        return found;
    };
    co_return co_await db_.read(std::move(look_up));
}

}  // namespace nebula::accounts
