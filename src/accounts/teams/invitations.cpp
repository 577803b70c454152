// Invitations: a token of 238 random bits that only the invited person can use, within seven days.
#include <algorithm>

#include "accounts/store.hpp"
#include "accounts/teams/team_service.hpp"
#include "accounts/validate.hpp"

namespace nebula::accounts {

using store::Tx;

namespace {

constexpr std::chrono::days lifetime{7};
constexpr std::size_t token_size = 40;
constexpr std::size_t open_max = 100;
constexpr std::size_t members_max = 1'000;

std::unexpected<Error> no_invitation() {
    return fail(Code::not_found, "there is no such invitation", "invitation");
}

/// What could not be a token is not looked up.
bool is_token(std::string_view text) {
    auto is_base62 = [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    };
    return text.size() == token_size && std::ranges::all_of(text, is_base62);
}

}  // namespace

void TeamService::mail(const NewInvitation& made, const Caller& by) {
    if (mailer_ == nullptr) return;
    const Invitation& invitation = made.invitation;
    std::string inviter = by.name.empty() ? by.email : by.name;
    mailer_->send(
        {invitation.email, inviter + " invites you to the team " + invitation.team_name,
         inviter + " (" + by.email + ") invites you to the team \"" + invitation.team_name +
             "\".\n\nTo accept, sign in with this e-mail address and open:\n" + public_url_ +
             "/invitation?token=" + made.token.reveal() +
             "\n\nThe link is good for 7 days. If you do not know what this is about, do nothing.\n"});
}

Async<Result<NewInvitation>> TeamService::invite(Caller caller, AccountId team, std::string email,
                                                 TeamRole role, Permissions permissions) {
    auto address = check_email(email);
    if (!address) co_return fail(address.error());
    if (role == TeamRole::owner)
        co_return fail(Code::invalid_request, "a team is given away by transferring it", "role");
    NewInvitation made;
    made.token = Secret(random_base62(token_size));
    Invitation& invitation = made.invitation;
    invitation.team = team;
    invitation.email = std::move(*address);
    invitation.role = role;
    invitation.permissions = role == TeamRole::admin ? Permissions::all() : permissions;
    invitation.created_at = clock_.now();
    invitation.expires_at = invitation.created_at + lifetime;
    auto insert = [this, caller, invitation,
                   hash = sha256(made.token.reveal())](Tx& tx) -> Result<Invitation> {
        auto own = standing(tx, caller, invitation.team, true);
        if (!own) return fail(own.error());
        Member future;
        future.role = invitation.role;
        future.permissions = invitation.permissions;
        auto allowed = may_manage(*own, caller, future);
        if (!allowed) return fail(allowed.error());
        auto members = sql::members(tx, invitation.team);
        if (std::ranges::find(members, invitation.email, &Member::email) != members.end())
            return fail(Code::conflict, "this person is a member already", "email");
        auto open = sql::invitations(tx, invitation.team, clock_.now());
        bool again = std::ranges::find(open, invitation.email, &Invitation::email) != open.end();
        if (members.size() >= members_max || (open.size() >= open_max && !again))
            return fail(Code::conflict, "there are too many members or open invitations", "email");
        Invitation stored = invitation;
        stored.team_name = own->team.display_name;
        stored.id = sql::put_invitation(tx, invitation, hash, caller.user);
        record(tx, caller, invitation.team, "Add", "Team Invitation", std::to_string(stored.id),
               invitation.email);
        return stored;
    };
    auto stored = co_await db_.in_tx(std::move(insert));
    if (!stored) co_return fail(stored.error());
    made.invitation = std::move(*stored);
    mail(made, caller);
    co_return made;
}

Async<Result<std::vector<Invitation>>> TeamService::invitations(Caller caller, AccountId team) {
    auto list = [this, caller, team](Tx& tx) -> Result<std::vector<Invitation>> {
        auto own = standing(tx, caller, team, false);
        if (!own) return fail(own.error());
        if (!own->own.permissions.has(Permission::team_write))
            return fail(Code::forbidden, "only owner and admins may do that");
        return sql::invitations(tx, team, clock_.now());
    };
    co_return co_await db_.read(std::move(list));
}

Async<Result<void>> TeamService::cancel(Caller caller, AccountId team, std::int64_t id) {
    auto drop = [this, caller, team, id](Tx& tx) -> Result<bool> {
        auto own = standing(tx, caller, team, true);
        if (!own) return fail(own.error());
        auto invitation = sql::invitation(tx, team, id);
        if (!invitation) return no_invitation();
        Member future;
        future.role = invitation->role;
        future.permissions = invitation->permissions;
        auto allowed = may_manage(*own, caller, future);
        if (!allowed) return fail(allowed.error());
        sql::delete_invitation(tx, team, id);
        record(tx, caller, team, "Remove", "Team Invitation", std::to_string(id), invitation->email);
        return true;
    };
    auto dropped = co_await db_.in_tx(std::move(drop));
    if (!dropped) co_return fail(dropped.error());
    co_return Result<void>();
}

Async<Result<Invitation>> TeamService::invitation(std::string token) {
    if (!is_token(token)) co_return no_invitation();
    auto look_up = [hash = sha256(token), now = clock_.now()](Tx& tx) -> Result<Invitation> {
        auto found = sql::invitation_by_token(tx, hash, now);
        if (!found) return no_invitation();
        return std::move(*found);
    };
    co_return co_await db_.read(std::move(look_up));
}

Async<Result<Team>> TeamService::accept(Caller caller, std::string token) {
    if (!is_token(token)) co_return no_invitation();
    auto join = [this, caller, hash = sha256(token)](Tx& tx) -> Result<Team> {
        Time now = clock_.now();
        auto found = sql::invitation_by_token(tx, hash, now);
        // Asked of the table: what the session remembers of the address may be old.
        auto email = sql::email_of(tx, caller.user);
        if (!found || !email || *email != found->email) return no_invitation();
        if (!sql::lock_account(tx, found->team)) return no_invitation();
        // Somebody may have cancelled it, or accepted it in another window, until the lock was ours.
        if (!sql::invitation(tx, found->team, found->id)) return no_invitation();
        if (sql::membership(tx, found->team, caller.user))
            return fail(Code::conflict, "you are a member already", "invitation");
        sql::insert_member(tx, found->team, caller.user, {found->role, found->permissions}, now);
        sql::delete_invitation(tx, found->team, found->id);
        record(tx, caller, found->team, "Add", "Team Member", caller.user.text(), found->email);
        tell(tx, caller.user);
        auto team = sql::team_of(tx, caller.user, found->team);
        if (!team) return no_invitation();
        return std::move(*team);
    };
    co_return co_await db_.in_tx(std::move(join));
}

}  // namespace nebula::accounts
